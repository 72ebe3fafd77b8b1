"""The entry of `usher`: runs one command and turns whatever ends it into one sentence and an exit code.

No traceback reaches a user but for our own bugs, and then with a plea to report it. Exit codes: `broker/exit_codes.py`.
A client-only install lacks the command line's libraries; that, too, is a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from broker.exit_codes import ExitCode


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `usher ARGUMENTS` (default: those of the process); the exit code."""
    try:
        import click

        from broker.cli.commands import usher
    except ModuleNotFoundError as error:
        return _say_missing(error)
    try:
        outcome = usher.main(arguments, prog_name="usher", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SystemExit:
        # How click and rich leave when the reader of our output has left (`usher sessions | head`): it had enough.
        return ExitCode.DONE
    except ModuleNotFoundError as error:
        return _say_missing(error)
    except Exception as error:
        from broker.cli.failures import explain

        sentence, code = explain(error)
        print(f"usher: {sentence}", file=sys.stderr)
        return code
    return outcome if isinstance(outcome, int) else ExitCode.DONE


def _say_missing(error: ModuleNotFoundError) -> int:
    if (error.name or "").partition(".")[0] in ("broker", "hwkey"):
        raise error
    print(
        f"usher: the command line needs {error.name}, which is not installed: pip install 'usher-broker[broker]'",
        file=sys.stderr,
    )
    return ExitCode.COMPILED_PARTS_MISSING


if __name__ == "__main__":
    sys.exit(main())
