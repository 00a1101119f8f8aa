"""Small changes that take one guard out of what operators do: replays, audits, redrives (docs/operations.md)."""

from typing import Final

from tests.sim.mutant_list import Mutant

_REPLAY: Final = "ops.replay"

# Not in the list: that a replay does not override what another one has counted since (`_refuse_outdated`). Two that
# count by the same rules write the same.

OF_OPERATORS: Final = (
    # Replays
    Mutant(
        "a repair keeps what it replaces", _REPLAY, "stored.write_replaced(store, replay.replay_id, fresh, at)", "pass"
    ),
    Mutant(
        "a repair records its revision",
        _REPLAY,
        "stored.write_repairs(store, to_record, replay.fingerprint, replay.name, at)",
        "pass",
    ),
    Mutant(
        "a replay refuses when the rules change midway",
        _REPLAY,
        "    if _fingerprint(connections, history.edition) != replay.fingerprint:",
        "    if False:",
    ),
    Mutant(
        "a replay looks at the rules once more when its revision is recorded",
        _REPLAY,
        """    _refuse_outdated(
        connections, replay, span, changes
    )  # once more: a later replay sees from here on what this one writes
""",
        "",
    ),
    Mutant(
        "a replay that goes on leaves out what retention has come to",
        _REPLAY,
        "closed_span(located[source_id], WantedOffsets(first, end), head)",
        "(OffsetRange(located[source_id], first, end), [])",
    ),
    Mutant(
        "a chunk that is repaired by half is told",
        _REPLAY,
        "    summary.notes += _half_done(prepared.spans, begun, replay)\n",
        "",
    ),
    Mutant("a rewind begins anew", _REPLAY, "[] if request.rewind else jobs.chunks", "jobs.chunks"),
    Mutant(
        "an interrupted replay is found again",
        "ops.jobs",
        "same[0] if same and same[0].step is Step.running else None",
        "None",
    ),
    Mutant(
        "a repair takes back what the log does not give",
        "ops.compare",
        "            differing[key] = held.values, nothing\n",
        "",
    ),
    Mutant(
        "a replay writes dead letters",
        "ops.stored",
        "[dead_letter(c.counted.source, dead) for c in changes for _, dead in c.dead.values()],",
        "[],",
    ),
    Mutant(
        "what a rewind drops of a head is listed",
        _REPLAY,
        'if replay.action != "fill" and _head_is_dropped(span, c)]',
        'if replay.action == "repair" and _head_is_dropped(span, c)]',
    ),
    Mutant("a rewind tells of which log it is", _REPLAY, "                    mark=mark,\n", ""),
    Mutant(
        "marks of a log from before a rewind are written anew",
        "ops.recount",
        "    return counted < located.grid.chunk_end(chunk) <= end",
        "    return False",
    ),
    Mutant(
        "a rewind leaves a mark of every chunk",
        "ops.recount",
        "set(chunks).difference(located.chunks) if span.whole_log else set[int]()",
        "set[int]()",
    ),
    Mutant("the audit looks no further than the log", "ops.audit_look", "min(reached, self.one.end)", "reached"),
    Mutant(
        "a rewind leaves no chunk that is not counted",
        "ops.spans",
        "grid.chunk_end(first) > min(counted, located.end)",
        "grid.chunk_end(first) > located.end",
    ),
    Mutant(
        "a commit from before a rewind is no skip",
        _REPLAY,
        "if span.end < was_to else NO_CUT",
        "if False else NO_CUT",
    ),
    Mutant(
        "a rewind lists what was deleted before it was counted",
        _REPLAY,
        "and known.next_offset < span.located.low\n",
        "and False\n",
    ),
    Mutant(
        "a rewind takes back what is stored beyond the log",
        "ops.recount",
        "        if span.whole_log:\n            yield list(self._beyond",
        "        if False:\n            yield list(self._beyond",
    ),
    Mutant("a rewind waits for consumers to be stopped", _REPLAY, "    if members:", "    if False:"),
    Mutant(
        "a rewind sets the position back",
        _REPLAY,
        "        _set_back(prepared, seen, recount.ends)\n",
        "        pass\n",
    ),
    Mutant(
        "what was kept of a head stays",
        "ops.recount",
        "keep = start > first and self.head is HeadPolicy.keep",
        "keep = False",
    ),
    Mutant(
        "a range with a head that is gone is refused",
        "ops.spans",
        "        if head is HeadPolicy.refuse and wanted.first is not None:",
        "        if False:",
    ),
    Mutant(
        "only the chunks of the wanted offsets are replayed",
        "ops.spans",
        "first = max(first_retained, grid.chunk_of(wanted.first or 0))",
        "first = first_retained",
    ),
    Mutant(
        "only the chunks of the wanted times are replayed",
        _REPLAY,
        "            end = until[tp]\n",
        "            end = None\n",
    ),
    # The audit
    Mutant(
        "the audit compares every cell",
        "ops.audit",
        "checked.differences += audit_rules.cells(extent, held, surely, at_most)",
        "pass",
    ),
    Mutant(
        "the audit accounts for every record",
        "ops.audit",
        "checked.differences += audit_rules.conservation(extent, checked.accounted, counts[0].records, "
        "counts[1].records)",
        "pass",
    ),
    # Redrives
    Mutant(
        "what may be sent already is looked for first",
        "ops.redrive",
        "self._settle(uncertain(self._connections.store, which))",
        "mark(self._connections.store, uncertain(self._connections.store, which), 'aborted', self._options.by)",
    ),
    Mutant(
        "a letter is marked before its transaction is committed",
        "ops.sending",
        "        mark(self._connections.store, letters, UNCERTAIN, by, destinations)\n",
        "",
    ),
    Mutant(
        "a redrive ends the transaction of the one before",
        "ops.sending",
        '"transactional.id": REDRIVE_PREFIX + letters_topic,',
        '"transactional.id": REDRIVE_PREFIX + str(id(self)),',
    ),
    Mutant(
        "only what is surely not sent is sent",
        "ops.redrive",
        "replace(which, actions=SENDABLE)",
        "replace(which, actions=(*SENDABLE, 'redriving', 'sent'))",
    ),
    Mutant(
        "what may or may not have been sent is left alone",
        "ops.redrive",
        "settled.absent + (settled.unknown if self._options.send_unknown else [])",
        "settled.absent + settled.unknown",
    ),
    Mutant(
        "what the log has lost the place of is unknown",
        "ops.settling",
        "        elif low <= first <= end:",
        "        elif True:",
    ),
    Mutant(
        "an open transaction may hide what was sent",
        "ops.settling",
        "while connections.topics.ends([tp], READ_COMMITTED)[tp] < wanted:",
        "while False:",
    ),
    Mutant(
        "the rest of a long letter is read from its record",
        "ops.redrive",
        "whole if len(whole) == letter.payload_bytes and whole.startswith(letter.payload) else None",
        "whole or None",
    ),
    Mutant(
        "a long letter is sent whole",
        "ops.redrive",
        "letter.payload if letter.payload_bytes <= len(letter.payload) else self._whole.payload(letter)",
        "letter.payload",
    ),
    Mutant(
        "a letter goes round so often and no more",
        "ops.redrive",
        "if hops_of(letter.headers) >= self._options.max_hops:",
        "if False:",
    ),
    Mutant("only what can be decoded is sent", "ops.redrive", "event_second(decode(transformed).timestamp)", "pass"),
    Mutant(
        "nothing is sent that the target deletes before it is counted",
        "ops.redrive",
        "        if gone is not None:",
        "        if False:",
    ),
    Mutant(
        "a letter has its own time, or the present one where that is asked for",
        "ops.redrive",
        "timestamp_ms = now_ms if self._options.timestamp_now else letter.kafka_ms",
        "timestamp_ms = now_ms",
    ),
    Mutant("a limit holds for each page", "ops.dead_letters", "min(limit, PAGE)", "PAGE"),
    Mutant("a redrive ends when it is told", "ops.redrive", "if self._options.stopping():", "if False:"),
    Mutant("a rate is kept", "ops.redrive", "if self._options.rate:", "if False:"),
    Mutant(
        "nothing is sent where uncommitted records are counted",
        "ops.sending",
        "if connections.settings.isolation != READ_COMMITTED:",
        "if False:",
    ),
    Mutant(
        "nothing is sent to a compacted topic",
        "ops.targets",
        'if "compact" in settings.get("cleanup.policy", ""):',
        "if False:",
    ),
    Mutant(
        "nothing is committed of which a record was refused",
        "ops.sending",
        "            raise _translate(failed[0])",
        "            put |= {at: (0, 0) for at in range(len(batch)) if at not in put}",
    ),
)
