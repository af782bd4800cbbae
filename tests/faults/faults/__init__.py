"""The cases, by section of what they are about; importing this registers them all."""

import faults.interrupts
import faults.limits
import faults.payloads
import faults.processes
import faults.resources
import faults.side_effects
import faults.store
import faults.surroundings
import faults.worker_death  # noqa: F401 - registered by importing
from faults.scene import CASES

__all__ = ["CASES"]
