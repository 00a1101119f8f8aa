"""Small changes that take one guard out of the product, by the rule that it guards (docs/design.md, reliability.md)."""

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """In a module of orgstats.consumer, `old` becomes `new`; `old` stands there once."""

    name: str
    module: str
    old: str
    new: str


_RESUME: Final = "counting.resume"
_PARTITION: Final = "counting.partition"
_CHUNK: Final = "counting.chunk"
_CUTBACK: Final = "cutback"
_CHECKPOINT: Final = "checkpoint"
_LOOP: Final = "loop"
_OPENING: Final = "assignment"

# What is not in the list, since by itself it changes nothing: all of it stands behind another guard. Nothing is stored
# before `flushes` is passed, that is where the last flush was to end which any consumer has begun, torn or not
# (`Resume.catching_up_until`), and the chain is compared where the stored progress ends, which is not further.
# - Stale cells are zeroed only where the log ended when the partition was opened (`Partition.to_reconcile`): what is
#   stored ends where `flushes` says. Only a consumer that was cut off and counts by an older fingerprint stores beyond,
#   and that is a documented limit.
# - A change of fingerprint is told only once all is counted again (`fingerprint_before_until`): the same. Where the
#   head of the chunk is gone, what a torn flush stored behind it is counted in the next revision, as after any.
# - A record of a later epoch than was counted (`Partition._refuse_newer`) and closed chunks that are read again
#   (`Partition._close_chain`) tell earlier of what the chain tells at the end, when nothing is stored yet.
#   A chunk whose head is gone is not read again (`resume`), nor is anything of a compacted topic.

# - A log that ends early when it is opened is compared at once (`cutback.is_suspect`): else it is when its end is read,
#   or the position is lost.

MUTANTS: Final = (
    # The counting rule
    Mutant("the open chunk is counted again from its head", _RESUME, "target if load_stored else head,", "target,"),
    Mutant(
        "nothing is stored while catching up",
        _PARTITION,
        "return self.next_offset < self.catching_up_until",
        "return False",
    ),
    Mutant(
        "nothing is stored below what a torn flush may have stored",
        _RESUME,
        "begun = 0 if load_stored else min(found.end, found.begun)",
        "begun = 0",
    ),
    Mutant(
        "what is left of a revision that was begun is looked at",
        _RESUME,
        "key=lambda one: (one.begins, one.reconcile)",
        "key=lambda one: one.begins",
    ),
    Mutant(
        "a chunk that is passed over held no record before",
        _PARTITION,
        "self._verify(self._grid.chunk_end(first))\n            self._close_chain(first, attempt.revision)",
        "self._notes.closed.append(ClosedChunk(first, attempt.revision, self._mark()))",
    ),
    Mutant(
        "where the head is gone, stored cells are loaded",
        _RESUME,
        "load_stored = found.low > head",
        "load_stored = False",
    ),
    Mutant(
        "a loaded cell skips what it holds",
        _CHUNK,
        "if offset >= (finest if by_counts else cell).counted_to:",
        "if offset >= 0:",
    ),
    Mutant(
        "what was delivered before is passed over",
        _PARTITION,
        "if run and run[0].offset() < self.next_offset:",
        "if False:",
    ),
    Mutant("changes that were not stored are changes again", _PARTITION, "part.chunk.not_stored(part)", "pass"),
    Mutant(
        "dead letters that were not stored are stored later",
        _PARTITION,
        "notes.dead_letters[:0] = changes.notes.dead_letters",
        "pass",
    ),
    Mutant("closed chunks that were not stored are kept", _PARTITION, "if s.end > changes.next_offset]", "if False]"),
    Mutant("days that were not stored are stored later", _CHUNK, "self._days_stored -= changes.days", "pass"),
    Mutant(
        "progress comes after the counts",
        "store.store",
        '("flushes", rows.flushes(flush)),',
        '("progress", rows.progress(flush)), ("flushes", rows.flushes(flush)),',
    ),
    Mutant("a chunk's days come before its cells", "store.store", '("chunk_days", rows.chunk_days(changes)),', ""),
    Mutant(
        "the commit comes last",
        _LOOP,
        "        except Unavailable as error:\n            self._partitions.not_stored(flight.work)",
        "        except Unavailable as error:\n            self._commit(flight.work, flight.fingerprint)\n"
        "            self._partitions.not_stored(flight.work)",
    ),
    # hourly
    Mutant(
        "a store that holds less of hourly went back",
        _CHECKPOINT,
        "found.hourly_offset < hourly",
        "found.hourly_offset < 0",
    ),
    Mutant(
        "a store that holds less of hourly before the first flush went back",
        _CHECKPOINT,
        "first = (one.assigned.counted, one.assigned.hourly)",
        "first = (one.assigned.counted, 0)",
    ),
    Mutant(
        "hourly tells how far it is written",
        _PARTITION,
        "self.hourly_offset if self.chunk.changed else self.next_offset,",
        "self.next_offset,",
    ),
    Mutant(
        "hourly of a chunk that is not opened is made good",
        _RESUME,
        "    return Chunks(grid, grid.chunk_of(progress.hourly_offset)",
        "    return NO_CHUNKS\n    return Chunks(grid, grid.chunk_of(progress.hourly_offset)",
    ),
    Mutant(
        "hourly that is behind is made of counts",
        _CHUNK,
        "            if cell.values != values:",
        "            if False:",
    ),
    # Commits, gaps
    Mutant("what nobody counted is listed", _RESUME, "if counted < target else None", "if False else None"),
    Mutant(
        "a commit ahead of the store is not believed",
        _RESUME,
        "    if committed <= counted or (accept_skip",
        "    if True or (accept_skip",
    ),
    Mutant(
        "an accepted skip ends where a chunk begins",
        _RESUME,
        "grid.chunk_of(position) if skips else position",
        "position",
    ),
    Mutant(
        "what is skipped from is compared first",
        _OPENING,
        "if suspect is not None or skips or",
        "if suspect is not None or",
    ),
    Mutant(
        "a skip does not go beyond the log",
        _RESUME,
        "committed = min(found.committed, found.end)",
        "committed = found.committed",
    ),
    Mutant(
        "of a compacted topic nothing is counted again",
        _RESUME,
        "found = replace(found, low=max(found.low, counted))",
        "pass",
    ),
    # Versions of the program and the rules
    Mutant(
        "another fingerprint counts in the next revision", _RESUME, "    if before != fingerprint:", "    if False:"
    ),
    Mutant("stale cells become zero", _PARTITION, "chunk.overwrite(stored.cells)", "pass"),
    Mutant(
        "stale dead letters are withdrawn", _PARTITION, "if offset not in dead and not letter.withdrawn", "if False"
    ),
    Mutant(
        "a revision is recorded",
        _PARTITION,
        "self._notes.begun.append((first_offset, attempt.revision, attempt.why))\n        if",
        "pass\n        if",
    ),
    Mutant(
        "a new edition of the rules counts the open chunks again",
        _LOOP,
        "history, self._clients)\n            self._look_anew()",
        "history, self._clients)",
    ),
    Mutant(
        "what came while the rules were not known is read again",
        _LOOP,
        "            self._look_anew()  # this batch could",
        "            pass  # this batch could",
    ),
    Mutant(
        "nothing is classified by an old copy of the rules",
        "rules_copy",
        "return self._clock.monotonic() > self._read_at + STALE_SECONDS",
        "return False",
    ),
    # Logs that were cut back
    Mutant(
        "what is read again must give the stored chain",
        _PARTITION,
        "if mark.chain and self._chain.chain_from == mark.chain_from and self._chain.value != mark.chain:",
        "if False:",
    ),
    Mutant(
        "no part of a chunk is stored in a later revision",
        _PARTITION,
        "return chunk.revision > 0 and chunk.next_offset < min(chunk.end, self._start.counted)",
        "return False",
    ),
    Mutant(
        "a letter of another owner is not withdrawn",
        _PARTITION,
        " and (chunk.revision or offset < chunk.next_offset)",
        "",
    ),
    Mutant(
        "chunks without a record are looked at",
        _PARTITION,
        "            if attempt.reconcile:\n                empty",
        "            if False:\n                empty",
    ),
    Mutant(
        "a chain begins with its chunk",
        _PARTITION,
        "self._chain = Chain(following)",
        "self._chain = Chain(self._closed[0].end)",
    ),
    Mutant(
        "a chunk that has just become full keeps its chain",
        _PARTITION,
        "        self._note_closed_before(head)\n",
        "",
    ),
    Mutant(
        "a producer's time does not tell when a record was acknowledged",
        _CUTBACK,
        "return when_ms if kind == TIMESTAMP_LOG_APPEND_TIME else 0",
        "return when_ms",
    ),
    Mutant(
        "the log ends early while what is stored is read again",
        _PARTITION,
        "if next_offset < self._start.read_before:",
        "if False:",
    ),
    Mutant(
        "where nothing is read again the chunk before is compared",
        _CUTBACK,
        "return max(first, found.low) < head",
        "return False",
    ),
    Mutant(
        "the cut is looked for backwards",
        _CUTBACK,
        "        if chunk == until or chunk not in chunks or until <= found.low:",
        "        if True:",
    ),
    Mutant(
        "the log is compared down to where it was seen to differ",
        _CUTBACK,
        "if (same and chunk <= down_to) or",
        "if same or",
    ),
    Mutant(
        "the same records that come again in a later epoch are no change",
        _PARTITION,
        "if mark.chain and (mark.chain_from == self._chain.chain_from or mark.chain_from >= self.chunk.end):",
        "if False:",
    ),
    Mutant(
        "what was counted before a skip is compared",
        _CUTBACK,
        "    return stopped, changed",
        "    return 0, changed",
    ),
    Mutant("the chunk that was left for a skip is counted again", _CUTBACK, "changed = LogChange(stopped, 0)", "pass"),
    Mutant(
        "a chunk that held no record is compared", _CUTBACK, "(mark.chain or (closed and look.chain))", "mark.chain"
    ),
    Mutant(
        "chunks from the cut on are counted in the next revision",
        _RESUME,
        "    if not found.grid.chunk_of(cut.at) <= first_offset < cut.to:",
        "    if True:",
    ),
    Mutant(
        "what the log does not reach any more is taken back",
        _CUTBACK,
        "    return Chunks(found.grid, first, progress.cut_to)",
        "    return NO_CHUNKS",
    ),
    Mutant(
        "a second cut does not forget the first", _CUTBACK, "cut_to=max(stale_to, progress.cut_to),", "cut_to=stale_to,"
    ),
    Mutant(
        "a commit from before the cut is too far",
        _CUTBACK,
        "return replace(found, committed=min(found.committed, progress.next_offset))",
        "return found",
    ),
    Mutant(
        "completeness goes back with a cut",
        _CUTBACK,
        "complete_until_ms=min(progress.complete_until_ms, changed.timestamp_ms),\n        hourly",
        "complete_until_ms=progress.complete_until_ms,\n        hourly",
    ),
    Mutant(
        "a torn flush counts its chunks again",
        _RESUME,
        "found.begun <= counted:\n        return None",
        "True:\n        return None",
    ),
    Mutant("a flush tells how far it goes", "store.store", '("flushes", rows.flushes(flush)),', ""),
    Mutant(
        "the broker is asked how far an epoch reaches",
        _OPENING,
        "        return None\n    return progress.mark.leader_epoch",
        "        return None\n    return None",
    ),
    Mutant(
        "a checkpoint looks where the logs end", _CHECKPOINT, "if ends[one.tp] < one.changes.next_offset]", "if False]"
    ),
    Mutant(
        "what a withdrawn letter is below is counted later",
        "store.rows",
        "version_of(revision, chunk if revision else offset)",
        "version_of(revision, (1 << 48) - 1)",
    ),
    Mutant(
        "the ends are asked for last",
        "source_facts",
        "    begun = store.begun(sources.values())\n"
        '    lows, ends = topics.starts(sources), topics.ends(sources, "read_uncommitted")\n',
        '    lows, ends = topics.starts(sources), topics.ends(sources, "read_uncommitted")\n'
        "    begun = store.begun(sources.values())\n",
    ),
    # Topics, the store
    Mutant("a topic is still the same", _CHECKPOINT, "if now_uuid != uuid:", "if False:"),
    Mutant(
        "a topic that is made again is not counted on",
        "partitions",
        "            if before != one.assigned.uuid:",
        "            if False:",
    ),
    Mutant(
        "the store still holds what it confirmed",
        _CHECKPOINT,
        "if (found.next_offset if found else -1) < confirmed:",
        "if False:",
    ),
    Mutant(
        "the torn flush whose cells were loaded is still stored",
        _CHECKPOINT,
        "if begun.get(one.changes.source.source_id, (0, 0)) <",
        "if (1 << 48, 0) <",
    ),
    Mutant("nobody has set the source back", _CHECKPOINT, "found.rewinds > one.assigned.rewinds", "False"),
    Mutant(
        "a source that others count is registered with the same length",
        _CHECKPOINT,
        "if found is None or found.next_offset > confirmed:",
        "if found is None:",
    ),
    Mutant(
        "a log that is cut back does not throw away what others have in memory",
        _LOOP,
        "            self._partitions.cut_back(error.tps)\n",
        "            self._partitions.cut_back(error.tps)\n            self._partitions.distrust_all()\n",
    ),
    Mutant(
        "a source is still registered", _CHECKPOINT, "            if registration is None:", "            if False:"
    ),
    # Completeness
    Mutant(
        "neither clock is exceeded: the store's", _CHECKPOINT, "return min(store.clock_ms(), here_ms)", "return here_ms"
    ),
    Mutant(
        "neither clock is exceeded: the consumer's",
        _CHECKPOINT,
        "return min(store.clock_ms(), here_ms)",
        "return store.clock_ms()",
    ),
    Mutant(
        "hidden records count as acknowledged",
        _CHECKPOINT,
        'for one in work], "read_uncommitted")',
        'for one in work], "read_committed")',
    ),
    Mutant(
        "complete up to a look once its end is counted", "counting.completeness", "if end <= next_offset]", "if True]"
    ),
    Mutant(
        "a time to come that another process told is forgotten",
        "counting.completeness",
        "            self._known_ms = 0",
        "            pass",
    ),
    Mutant(
        "a look by clocks that were ahead is set right",
        "counting.completeness",
        "[(when.by(now), older) for",
        "[(when, older) for",
    ),
    Mutant(
        "what was told by clocks that were ahead is set right",
        "counting.completeness",
        "self._complete_until = self._complete_until.by(now)",
        "pass",
    ),
    # The audit, of what consumers record for it
    Mutant(
        "a fingerprint that came within a chunk is recorded",
        _PARTITION,
        "self._notes.begun.append((first_offset, max(0, self.chunk.revision - begins), MIXED))",
        "pass",
    ),
    Mutant(
        "cells of two fingerprints are compared with neither",
        "ops.audit",
        "if repair is not None and repair.mixed:",
        "if False:",
    ),
    # The loop
    Mutant(
        "nothing is opened while a checkpoint is under way",
        _LOOP,
        "if self._checkpoints.in_flight or self._read_anew:",
        "if self._read_anew:",
    ),
    Mutant(
        "nothing of what is opened again is read on",
        _LOOP,
        "if self._checkpoints.in_flight or self._read_anew:",
        "if self._checkpoints.in_flight:",
    ),
    Mutant(
        "a pause ends when nothing is left to be stored",
        _LOOP,
        "        if not self._partitions.within(STORING):",
        "        if False:",
    ),
    Mutant(
        "a position that is lost is stored first",
        "states",
        "**dict.fromkeys(_ANEW, _P.DRAINING)",
        "**dict.fromkeys(_ANEW, _P.OPENING)",
    ),
    Mutant("who was fenced joins again", _LOOP, "            self._member.join_again()", "            pass"),
    Mutant(
        "a lost partition is dropped",
        _LOOP,
        "        self._unsaved = self._partitions.unstored(tps)\n        self._drop(tps)",
        "        self._unsaved = self._partitions.unstored(tps)",
    ),
    Mutant(
        "a failed checkpoint does not end reading for ever",
        _LOOP,
        "            self._pause_for(PauseReason.NOT_STORED, on=False)\n            ours",
        "            ours",
    ),
)
