"""The sizes and patterns that a licence document, a trust file and a licence folder may have.

They belong to the document format, which vendors build against, and are therefore fixed: making one smaller refuses
licences that are out in the field. Nothing here is read from a configuration. Sizes are in bytes, `_s` in seconds.
"""

import re
from typing import Final

DOCUMENT_SIZE_MAX: Final = 16 * 1024
TRUST_FILE_SIZE_MAX: Final = 256 * 1024
TRUST_ENTRY_COUNT_MAX: Final = 1_000
# A folder is read as a whole into memory: 4,096 files of 16 KiB are 64 MiB at the very worst.
FOLDER_FILE_COUNT_MAX: Final = 4_096
# Five thousand ids of 64 letters are 436 KiB in base64url; of such files 32 MiB are read at the worst.
REVOKED_COUNT_MAX: Final = 5_000
REVOCATION_LIST_SIZE_MAX: Final = 512 * 1024
REVOCATION_FILE_COUNT_MAX: Final = 64
REVOCATION_NUMBER_MAX: Final = 2**53 - 1

# On a key. A PIV token guarantees room for a certificate of 1,856 bytes (SP 800-73-4 part 1, appendix A); a YubiKey takes
# objects of 3,052 bytes, of which the PIV wrapping takes some.
CARRIED_COUNT_MAX: Final = 16
CERTIFICATE_SIZE_SURE: Final = 1_856
CERTIFICATE_SIZE_MAX: Final = 3_000

SEATS_MIN: Final = 1
SEATS_MAX: Final = 65_000
WEIGHT_MAX: Final = 1_000
SHARE_MAX_MAX: Final = 65_000
REQUIRES_COUNT_MAX: Final = 8
TRUST_PRODUCT_COUNT_MAX: Final = 256

LINGER_S_MAX: Final = 7 * 86_400
MIN_HOLD_S_MAX: Final = 7 * 86_400
TTL_S_MIN: Final = 5
TTL_S_MAX: Final = 86_400
# The last second of the year 9999: the last that a calendar can show.
UNIX_S_MAX: Final = 253_402_300_799

VENDOR_LENGTH_MAX: Final = 64
CUSTOMER_LENGTH_MAX: Final = 128

PRODUCT_PATTERN: Final = re.compile(r"[a-z][a-z0-9_.-]{0,31}")
LICENCE_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
KID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._:-]{0,127}")
# The base64url of a SHA-256, which is what an RFC 7638 thumbprint is here.
THUMBPRINT_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
