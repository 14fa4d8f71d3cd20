"""Whether torch can compute on a device; torch is imported only when that is asked, and help answers at once."""

from explorer.errors import InputError


def check_device(device: object) -> None:
    """Refuse a device that cannot be used here; "auto" can.

    Raises:
        ValueError: there is no such device.
    """
    import torch

    if device == "auto":
        return
    try:
        torch.device(device)  # type: ignore[call-overload]
        torch.empty(0, device=device)  # type: ignore[call-overload]
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device '{device}' cannot be used here ({reason}); leave it out, or take cpu") from error
