"""What a lockstep run may intend: each intent reads the model's state and becomes one or more operations."""
