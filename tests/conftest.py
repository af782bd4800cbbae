"""What all tests share: nothing may hang, and nothing that a test starts may be left behind."""

from __future__ import annotations

import hypothesis

# Examples are timed on machines that do other things too; pytest-timeout catches what hangs.
hypothesis.settings.register_profile("mpflow", deadline=None, print_blob=True)
hypothesis.settings.load_profile("mpflow")
