"""Names and ids of runs: short enough to say aloud, and unlikely to meet twice."""

from __future__ import annotations

import hashlib
import os

_HOW = (
    "amber bold brisk calm clear crisp dapper deft eager early fleet fond frank gentle glad grand hardy humble idle jolly keen kind "
    "lively lucid lunar mellow merry mild modest neat nimble noble plain plucky polite proud quick quiet rapid ready rosy royal sage "
    "sharp sleek sober solar spry steady stout sunny swift tidy tough true vivid warm wise witty young zesty"
).split()
_WHO = (
    "adder alpaca badger bat bear beaver bison boar bobcat civet cobra condor cougar crane crow deer dingo dove eagle eel egret elk "
    "falcon ferret finch fox gecko gibbon goat goose hare hawk heron ibex ibis jackal jay kestrel kiwi koala lark lemur lion llama "
    "lynx magpie marten mole moose newt ocelot orca osprey otter owl panda puffin quail rabbit raven robin seal shrew skunk sloth "
    "stoat stork swan tapir tern tiger toad trout viper vole walrus wasp whale wolf wombat wren yak zebra"
).split()


def new_run_name() -> str:
    """Make up a name such as `brisk-otter`; 5 000 or so exist, so it is no identity."""
    first, second = os.urandom(2)
    return f"{_HOW[first % len(_HOW)]}-{_WHO[second % len(_WHO)]}"


def new_run_id() -> str:
    """32 random hexadecimal digits."""
    return os.urandom(16).hex()


def flow_id_of(name: str) -> str:
    """32 hexadecimal digits that are the same for every flow of that name."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
