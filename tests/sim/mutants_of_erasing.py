"""Small changes that take one guard out of what else operators do: erasing organizations, changing the chunk length."""

from typing import Final

from tests.sim.mutant_list import Mutant

_ERASE: Final = "ops.erase"

# Not in the list: what only statements in SQL do. The simulation has its own (sql_erasing.py), which contract tests
# hold to the engine. And what tests/consumer/test_erased.py alone holds, as histories hardly come there: that what is
# moved and not deleted yet is not counted on, but for a day that is 0 (`without_moved`: somebody who was cut off has to
# store late in a chunk whose head is gone), and that no zero is written anew for what may be deleted meanwhile
# (`without_zeros_of`: a chunk has to change hands between the last look at it and the deletion).

OF_ERASING: Final = (
    Mutant("an erasure leaves a tombstone", _ERASE, "    if not is_erased(connections, org_id):", "    if False:"),
    Mutant(
        "an erasure waits until everybody knows of it",
        _ERASE,
        "    _wait_until_known(connections, org_id, tell)\n",
        "",
    ),
    Mutant(
        "an erasure waits for the open chunks",
        _ERASE,
        "held = _wait_for_open_chunks(connections, org_id, wait_seconds, tell)",
        "held = dict[int, int]()",
    ),
    Mutant(
        "all three tables are looked at for open chunks",
        _ERASE,
        "    held: dict[int, int] = {}\n    for family in FAMILIES:",
        "    held: dict[int, int] = {}\n    for family in (COUNTS,):",
    ),
    Mutant(
        "events of closed chunks are moved",
        _ERASE,
        "        run(store, _moved(family), values)\n",
        "",
    ),
    Mutant(
        "cells are deleted only where nobody counts",
        _ERASE,
        '"open": [0, *held.values()]',
        '"open": [0] * (1 + len(held))',
    ),
    Mutant(
        "cells that are 0 are deleted last",
        _ERASE,
        "    _delete_from(store, _EVENTS, values)\n    _wait_until_gone(store, _EVENTS, values, tell)\n",
        "",
    ),
    Mutant(
        "an erasure that left something is not done",
        _ERASE,
        "    if held:\n        raise Unavailable(",
        "    if False:\n        raise Unavailable(",
    ),
    Mutant("a replay waits for an erasure", "ops.replay", "    refuse_unfinished(connections)\n", ""),
    Mutant(
        "events of an erased organization count for nobody",
        "counting.chunk",
        "if key.org_id in self._erased:",
        "if False:",
    ),
    Mutant(
        "an erased organization that a chunk holds goes on as ever",
        "counting.chunk",
        "self._erased -= {key.org_id for key, cell in self._table.of(COUNTS).items() if any(cell.values)}",
        "pass",
    ),
    Mutant(
        "a dead letter that names an erased organization is stored empty",
        "counting.partition",
        "return bool(self._erased) and",
        "return False and",
    ),
    # Chunk lengths
    Mutant(
        "a change is decided only well before the log comes to it",
        "ops.chunk_length",
        "if end + grid.margin >= change.from_offset:",
        "if False:",
    ),
    Mutant(
        "what is proposed is taken back where the store does not answer",
        "ops.chunk_length",
        "    taken_back = row._replace(state=int(State.TAKEN_BACK))",
        "    taken_back = row",
    ),
    Mutant(
        "no chunk is opened that is not certain",
        "counting.partition",
        "if self._grid.chunk_end(offset) > self._known_to:",
        "if False:",
    ),
    Mutant(
        "what is only proposed is not certain",
        "counting.grid",
        "return min(end + self.margin, self.proposed)",
        "return end + self.margin",
    ),
    # What else is in the tables of docs/design.md
    Mutant(
        "another isolation level is refused",
        "counting.resume",
        "registration.isolation != isolation:",
        "False:",
    ),
    Mutant(
        "an event time that cannot be is not counted by",
        "counting.decode",
        "if age > limits.max_age_seconds or -age > limits.max_ahead_seconds:",
        "if False:",
    ),
)
