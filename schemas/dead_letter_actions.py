"""What was done last with each dead letter, as a subquery: operators' commands and their page say the same of it."""

from typing import Final

HANDLED: Final = ("redriven", "dropped")
"""Actions after which a dead letter is out of sight."""

ACTIONS: Final = """
    SELECT a.source_id AS source_id, a.offset AS offset, a.record_hash AS record_hash, a.version AS version,
        toString(a.target) AS target, a.target_ends AS target_ends, a.target_source_id AS target_source_id,
        multiIf(
            a.action != 'sent', toString(a.action),
            arrayExists(gap -> gap.1 <= a.target_offset AND a.target_offset < gap.2, g.ranges), 'lost',
            a.target_offset < s.first_offset, 'lost',
            p.next_offset > a.target_offset, 'redriven',
            'sent'
        ) AS action
    FROM (SELECT * FROM dead_letter_actions FINAL) AS a
    LEFT JOIN (SELECT source_id, next_offset FROM progress FINAL) AS p ON p.source_id = a.target_source_id
    LEFT JOIN (SELECT source_id, first_offset FROM sources FINAL) AS s ON s.source_id = a.target_source_id
    LEFT JOIN (
        SELECT source_id, groupArray((from_offset, to_offset)) AS ranges FROM gaps FINAL
        WHERE why IN ('retention', 'skip accepted') GROUP BY source_id
    ) AS g ON g.source_id = a.target_source_id
"""
"""A sent one is redriven when its record was counted, and lost when that was deleted before, or before anything of
its partition was counted. Offsets of other gaps are given out again, so they tell nothing of a record that was put
there."""

FROM_LETTERS: Final = (
    f" FROM dead_letters AS d FINAL LEFT JOIN ({ACTIONS}) AS a"
    " ON a.source_id = d.source_id AND a.offset = d.offset AND a.record_hash = d.record_hash WHERE "
)
"""Dead letters as `d`, and what was done with them as `a`; a condition is to follow."""
