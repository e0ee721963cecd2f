"""Registration networks, one architecture a file; `REGISTRATION_NETS` has them by name."""

from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet, count_parameters

__all__ = ["REGISTRATION_NETS", "Level", "Registered", "RegistrationNet", "count_parameters"]
