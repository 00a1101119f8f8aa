# Part of fast_path.pyx: the cells of one chunk without a Python object for each, like those of `cell_table.Cells`.
#
# What was counted by kinds is added kind by kind, without the interpreter's lock. What changed is handed out in columns, as
# it is inserted. Sums have 128 bits, which is more than the largest quantities of a chunk add up to.

cimport cython
from cpython cimport array

from array import array as pyarray
from collections import Counter

from orgstats.consumer.counting.cells import (
    COUNTS,
    ERASED_CATEGORY,
    ERASED_REASON,
    FAMILIES,
    HOURLY,
    SHOWN,
    TOTALS,
    erased_mark,
)
from orgstats.schemas.outcomes import DAY_SECONDS, HOUR_SECONDS, STAT_CATEGORIES

cdef extern from *:
    """
    typedef struct { uint64_t low, high; } Sum;

    static inline void add_product(Sum *sum, uint64_t a, uint64_t b) {
        const unsigned __int128 product = (unsigned __int128)a * b;
        const unsigned __int128 low = (unsigned __int128)sum->low + (uint64_t)product;
        sum->low = (uint64_t)low;
        sum->high += (uint64_t)(product >> 64) + (uint64_t)(low >> 64);
    }
    """
    ctypedef struct Sum:
        uint64_t low
        uint64_t high

    void add_product(Sum*, uint64_t, uint64_t) noexcept nogil

cdef enum:
    MOST_SUMS = 3
    MOST_FAMILIES = 3
    LET_GO = 2048  # cells of a column that are made without a pause, 50 µs

cdef enum:  # what columns are of
    ORG_ID
    BUCKET
    PROJECT_ID
    KEY_ID
    CATEGORY_ID
    OUTCOME_ID
    REASON
    WIDTH_OF_TOTAL
    FIRST_VALUE

cdef struct CellKey:
    # Of which cell it is; what the family's key does not have is 0. Without gaps: it is compared and hashed as bytes.
    uint64_t org_id
    uint64_t project_id
    uint64_t key_id
    uint32_t bucket
    int32_t reason  # its number
    uint16_t width
    uint8_t category
    uint8_t outcome
    uint32_t family

cdef struct Whole:
    CellKey key
    uint64_t counted_to
    Sum values[MOST_SUMS]
    bint changed

cdef struct Erased:
    uint64_t org_id
    uint64_t mark

cdef uint32_t HOUR = HOUR_SECONDS
cdef uint32_t DAY = DAY_SECONDS
cdef uint64_t LARGEST = 0xFFFFFFFFFFFFFFFF

cdef int COUNTS_FAMILY = FAMILIES.index(COUNTS)
cdef int HOURLY_FAMILY = FAMILIES.index(HOURLY)
cdef int TOTALS_FAMILY = FAMILIES.index(TOTALS)
cdef int EVENTS = COUNTS.events
cdef uint8_t ERASED = ERASED_CATEGORY
_seldom = [family for family in FAMILIES if family.seldom]
if len(FAMILIES) != MOST_FAMILIES or _seldom != [HOURLY] or HOURLY.events != EVENTS or TOTALS.events:
    raise RuntimeError("orgstats.consumer.counting.fast_path is of other families")
cdef bint IS_SHOWN[256]
cdef int SHOWN_AT[256]  # which value of a cell of `totals` is an outcome's, -1 for none
cdef int _n
for _n in range(256):
    IS_SHOWN[_n] = _n in STAT_CATEGORIES
    SHOWN_AT[_n] = SHOWN.index(_n) if _n in SHOWN else -1

_PARTS = [
    [
        {
            "org_id": ORG_ID,
            "bucket": BUCKET,
            "project_id": PROJECT_ID,
            "key_id": KEY_ID,
            "category": CATEGORY_ID,
            "outcome": OUTCOME_ID,
            "reason": REASON,
            "width": WIDTH_OF_TOTAL,
        }[name]
        for name in family.key._fields
    ]
    + [FIRST_VALUE + number for number in range(len(family.values))]
    for family in FAMILIES
]
_EMPTY = [  # arrays by part
    pyarray({BUCKET: "I", WIDTH_OF_TOTAL: "H", CATEGORY_ID: "B", OUTCOME_ID: "B"}.get(part, "Q"))
    for part in range(FIRST_VALUE + MOST_SUMS)
]
_FAMILY_NUMBER = {family: number for number, family in enumerate(FAMILIES)}


@cython.final
cdef class TakenCells:
    """What `take` has taken: which cells, family by family, and what they held then."""

    cdef int32_t* _numbers
    cdef Whole* _rows  # until there are columns
    cdef int64_t _count
    cdef int64_t _ends[MOST_FAMILIES]
    cdef list _reasons
    cdef dict _columns

    def __len__(self):
        return self._count

    def __dealloc__(self):
        free(self._numbers)
        free(self._rows)

    def columns(self):
        """What they held, by family, in columns; on whichever thread it is first asked for."""
        cdef int family
        cdef int64_t begin = 0
        if self._columns is None:
            columns = {}
            for family in range(MOST_FAMILIES):
                columns[FAMILIES[family]] = [self._column(part, begin, self._ends[family]) for part in _PARTS[family]]
                begin = self._ends[family]
            self._columns = columns
            free(self._rows)
            self._rows = NULL
        return self._columns

    cdef _column(self, int part, int64_t begin, int64_t end):
        """An array of numbers as wide as the table's; of reasons a list."""
        cdef int64_t i
        cdef const Whole* row
        cdef array.array numbers
        cdef void* to
        if part == REASON:
            return self._reasons_of(begin, end)
        numbers = array.clone(_EMPTY[part], end - begin, False)
        to = numbers.data.as_voidptr
        with nogil:
            for i in range(end - begin):
                row = &self._rows[begin + i]
                if part == BUCKET:
                    (<uint32_t*>to)[i] = row.key.bucket
                elif part == WIDTH_OF_TOTAL:
                    (<uint16_t*>to)[i] = row.key.width
                elif part == CATEGORY_ID:
                    (<uint8_t*>to)[i] = row.key.category
                elif part == OUTCOME_ID:
                    (<uint8_t*>to)[i] = row.key.outcome
                else:
                    (<uint64_t*>to)[i] = _wide_part_of(row, part)
        return numbers

    cdef list _reasons_of(self, int64_t begin, int64_t end):
        cdef int64_t i
        cdef list column = []
        for i in range(begin, end):
            if i % LET_GO == 0:
                with nogil:
                    pass  # the thread that counts may be waiting for the interpreter's lock
            column.append(self._reasons[self._rows[i].key.reason])
        return column

    cdef bint _fill(self, const Whole* rows, const int32_t* changed, int64_t count, bint seldom) noexcept nogil:
        """Take the changed ones; false without memory."""
        cdef int64_t i
        cdef uint32_t family
        self._numbers = <int32_t*>malloc((count + 1) * sizeof(int32_t))
        self._rows = <Whole*>malloc((count + 1) * sizeof(Whole))
        if self._numbers == NULL or self._rows == NULL:
            return False
        for family in range(MOST_FAMILIES):
            if seldom or family != <uint32_t>HOURLY_FAMILY:
                for i in range(count):
                    if rows[changed[i]].key.family == family:
                        self._numbers[self._count] = changed[i]
                        self._rows[self._count] = rows[changed[i]]
                        self._count += 1
            self._ends[family] = self._count
        return True


@cython.final
cdef class CompiledCell:
    """One of the cells, like `cell_table.Cell`."""

    cdef CompiledCells _cells
    cdef int64_t _number

    @property
    def family(self):
        return FAMILIES[self._row().key.family]

    @property
    def key(self):
        return self._cells._key_of(self._row())

    @property
    def changed(self):
        return self._row().changed

    @property
    def counted_to(self):
        return self._row().counted_to

    @counted_to.setter
    def counted_to(self, uint64_t offset):
        self._row().counted_to = offset

    @property
    def values(self):
        cdef Whole* row = self._row()
        return [_sum(&row.values[i]) for i in range(len(FAMILIES[row.key.family].values))]

    @values.setter
    def values(self, values):
        cdef Whole* row = self._row()
        cdef int i
        for i, value in enumerate(values):
            if i >= MOST_SUMS:
                raise ValueError("no cell has as many values")
            row.values[i] = Sum(value & LARGEST, value >> 64)

    def row_values(self):
        """The values as stored: held at UInt64's maximum instead of wrapping."""
        return tuple([min(value, LARGEST) for value in self.values])

    cdef Whole* _row(self) noexcept:
        return &self._cells._rows[self._number]


@cython.final
cdef class CompiledCells:
    """Like `cell_table.Cells`, and it also takes what the fast path has counted."""

    cdef Whole* _rows
    cdef int64_t _count, _room
    cdef int64_t _of_family[MOST_FAMILIES]
    cdef int32_t* _index  # numbers of cells, -1: free; a hash table with linear probing
    cdef int64_t _index_room
    cdef int32_t* _changed  # numbers of cells, with as much room as there is for cells
    cdef int64_t _changed_count
    cdef uint32_t* _days
    cdef int64_t _day_count, _day_room
    cdef dict _reason_numbers
    cdef list _reasons
    cdef object _kinds  # those that the following is of
    cdef int32_t* _reason_of  # by a kind's number of its reason, -1: not known yet
    cdef int64_t _reason_room
    cdef object _erased_ids  # those that the following is of
    cdef Erased* _erased  # by organization
    cdef int64_t _erased_count
    cdef int32_t _erased_reason

    def __init__(self):
        self._reason_numbers = {}
        self._reasons = []
        self._erased_ids = frozenset()
        self._erased_reason = self._reason_number(ERASED_REASON)

    def __dealloc__(self):
        free(self._rows)
        free(self._index)
        free(self._changed)
        free(self._days)
        free(self._reason_of)
        free(self._erased)

    @property
    def changed(self):
        """Whether any cell is still to be stored."""
        return self._changed_count > 0

    def count(self, family):
        """How many there are of a family."""
        return self._of_family[_FAMILY_NUMBER[family]]

    def days(self):
        """Starts of the days that there are cells of, epoch seconds."""
        return {self._days[i] for i in range(self._day_count)}

    def of(self, family):
        """The cells of a family, by key."""
        cdef int64_t i
        cdef uint32_t number = _FAMILY_NUMBER[family]
        return {
            self._key_of(&self._rows[i]): self._cell(i)
            for i in range(self._count)
            if self._rows[i].key.family == number
        }

    def cell(self, family, key):
        """The cell of a key, made if there is none."""
        cdef CellKey packed
        cdef int64_t number
        memset(&packed, 0, sizeof(packed))
        packed.family = _FAMILY_NUMBER[family]
        if packed.family == TOTALS_FAMILY:
            packed.org_id, packed.width, packed.bucket = key
        else:
            packed.org_id, packed.project_id, packed.bucket = key.org_id, key.project_id, key.bucket
            packed.category, packed.outcome, packed.reason = key.category, key.outcome, self._reason_number(key.reason)
            if packed.family == COUNTS_FAMILY:
                packed.key_id = key.key_id
        number = self._at(&packed)
        if number < 0:
            raise MemoryError
        return self._cell(number)

    def add(self, CompiledCell cell, int at, uint64_t quantity, uint64_t events):
        """Add so many events to a cell, each with a quantity that goes to one of the values."""
        if not 0 <= at < MOST_SUMS:
            raise IndexError(at)
        self._add(cell._number, at, quantity, events)

    def touch(self, CompiledCell cell):
        """It is to be stored, whether it has changed or not."""
        self._touch(cell._number)

    def touch_again(self, TakenCells taken):
        """What was taken is to be stored again."""
        cdef int64_t i
        for i in range(taken._count):
            self._touch(taken._numbers[i])

    def take(self, *, bint seldom):
        """The cells that are to be stored, of all families or without those that are written `seldom`."""
        cdef int64_t i, later = 0
        cdef TakenCells taken = TakenCells.__new__(TakenCells)
        taken._reasons = self._reasons
        with nogil:
            if taken._fill(self._rows, self._changed, self._changed_count, seldom):
                for i in range(taken._count):
                    self._rows[taken._numbers[i]].changed = False
                for i in range(self._changed_count):
                    if self._rows[self._changed[i]].changed:
                        self._changed[later] = self._changed[i]
                        later += 1
                self._changed_count = later
            else:
                later = -1
        if later < 0:
            raise MemoryError
        return taken

    def add_kinds(self, FastPath fast, admit, erased, *, bint projects):
        """Count what the fast path has counted, whose reasons were admitted in their order; how many events, by outcome.

        `admit(reason)` says as what a reason is stored.
        """
        cdef int64_t i, number
        cdef int64_t by_outcome[256]
        cdef int failed
        memset(by_outcome, 0, sizeof(by_outcome))
        if fast._count:
            if fast._kinds is not self._kinds:
                self._kinds = fast._kinds
                if self._reason_room:
                    memset(self._reason_of, 0xFF, self._reason_room * sizeof(int32_t))
            for number in fast._placed:
                self._place(number, fast._kinds._reasons[number], admit)
            self._erase(erased)
            with nogil:
                failed = self._add_kinds(fast, projects, by_outcome)
            if failed:
                raise MemoryError
        fast._clear()
        return Counter({i: by_outcome[i] for i in range(256) if by_outcome[i]})

    cdef int _add_kinds(self, FastPath fast, bint projects, int64_t* by_outcome) noexcept nogil:
        """Whether it has failed."""
        cdef int64_t i
        cdef Cell* counted
        cdef Kind* kind
        cdef CellKey key
        cdef uint64_t mark
        memset(&key, 0, sizeof(key))
        for i in range(fast._count):
            counted = &fast._cells[i]
            kind = &fast._kinds._kinds[counted.kind]
            by_outcome[kind.outcome] += counted.events
            key.org_id, key.bucket = kind.org_id, counted.bucket
            key.project_id = kind.project_id if projects else 0
            key.key_id = kind.key_id if projects else 0
            key.category, key.outcome, key.reason = kind.category, kind.outcome, self._reason_of[kind.reason]
            if self._erased_count:
                mark = self._mark_of(kind.org_id)
                if mark:
                    key.org_id, key.bucket = 0, counted.bucket - counted.bucket % DAY
                    key.project_id, key.key_id = mark, 0
                    key.category, key.outcome, key.reason = <uint8_t>ERASED, 0, self._erased_reason
            if self._add_event(key, kind.quantity, counted.events):
                return True
        return False

    cdef int _add_event(self, CellKey key, uint64_t quantity, uint64_t events) noexcept nogil:
        """Add events of the finest key to the cells of all families; whether it has failed."""
        cdef int at = SHOWN_AT[key.outcome] if IS_SHOWN[key.category] else -1
        cdef uint32_t hour = key.bucket - key.bucket % HOUR, bucket = key.bucket
        key.family = COUNTS_FAMILY
        if not self._add_to(&key, 0, quantity, events):
            return True
        key.family, key.key_id, key.bucket = HOURLY_FAMILY, 0, hour
        if not self._add_to(&key, 0, quantity, events):
            return True
        if at < 0:
            return False
        key.family, key.project_id, key.category, key.outcome, key.reason = TOTALS_FAMILY, 0, 0, 0, 0
        key.width = <uint16_t>HOUR
        if not self._add_to(&key, at, quantity, events):
            return True
        key.width, key.bucket = <uint16_t>WIDTH, bucket
        return not self._add_to(&key, at, quantity, events)

    cdef inline bint _add_to(self, CellKey* key, int at, uint64_t quantity, uint64_t events) noexcept nogil:
        cdef int64_t number = self._at(key)
        if number < 0:
            return False
        self._add(number, at, quantity, events)
        return True

    cdef inline void _add(self, int64_t number, int at, uint64_t quantity, uint64_t events) noexcept nogil:
        cdef Whole* row = &self._rows[number]
        add_product(&row.values[at], quantity, events)
        if row.key.family != TOTALS_FAMILY:
            add_product(&row.values[EVENTS], events, 1)
        self._touch(number)

    cdef inline void _touch(self, int64_t number) noexcept nogil:
        if not self._rows[number].changed:
            self._rows[number].changed = True
            self._changed[self._changed_count] = <int32_t>number
            self._changed_count += 1

    cdef inline int64_t _at(self, const CellKey* key) noexcept nogil:
        """The number of a key's cell, added if it is not there; -1 without memory."""
        cdef int64_t at
        cdef Whole* row
        if 2 * (self._count + 1) > self._index_room and not self._widen():
            return -1
        at = _hash_of(key) & (self._index_room - 1)
        while self._index[at] >= 0:
            row = &self._rows[self._index[at]]
            if memcmp(&row.key, key, sizeof(CellKey)) == 0:
                return self._index[at]
            at = (at + 1) & (self._index_room - 1)
        if not self._note_day(key.bucket - key.bucket % DAY):
            return -1
        self._index[at] = <int32_t>self._count
        row = &self._rows[self._count]
        memset(row, 0, sizeof(Whole))
        row.key = key[0]
        self._of_family[key.family] += 1
        self._count += 1
        return self._count - 1

    cdef bint _widen(self) noexcept nogil:
        """Room for twice as many cells; false without memory."""
        cdef int64_t room = 2 * self._index_room if self._index_room else 64
        cdef int64_t i, at
        rows = realloc(self._rows, (room // 2) * sizeof(Whole))
        if rows == NULL:
            return False
        self._rows = <Whole*>rows
        changed = realloc(self._changed, (room // 2) * sizeof(int32_t))
        if changed == NULL:
            return False
        self._changed = <int32_t*>changed
        index = realloc(self._index, room * sizeof(int32_t))
        if index == NULL:
            return False
        self._index, self._index_room = <int32_t*>index, room
        memset(self._index, 0xFF, room * sizeof(int32_t))
        for i in range(self._count):
            at = _hash_of(&self._rows[i].key) & (room - 1)
            while self._index[at] >= 0:
                at = (at + 1) & (room - 1)
            self._index[at] = <int32_t>i
        return True

    cdef bint _note_day(self, uint32_t day) noexcept nogil:
        """Remember a day that there are cells of, the last ones first; false without memory."""
        cdef int64_t i, room
        for i in range(self._day_count - 1, -1, -1):
            if self._days[i] == day:
                return True
        if self._day_count == self._day_room:
            room = 2 * self._day_room + 8
            days = realloc(self._days, room * sizeof(uint32_t))
            if days == NULL:
                return False
            self._days, self._day_room = <uint32_t*>days, room
        self._days[self._day_count] = day
        self._day_count += 1
        return True

    cdef uint64_t _mark_of(self, uint64_t org_id) noexcept nogil:
        """What stands for an erased organization, 0 for any other."""
        cdef int64_t low = 0, high = self._erased_count, middle
        while low < high:
            middle = (low + high) // 2
            if self._erased[middle].org_id < org_id:
                low = middle + 1
            else:
                high = middle
        if low < self._erased_count and self._erased[low].org_id == org_id:
            return self._erased[low].mark
        return 0

    cdef int _erase(self, org_ids) except -1:
        """From now on these are the erased ones."""
        cdef int64_t i
        if org_ids is self._erased_ids or org_ids == self._erased_ids:
            return 0
        more = realloc(self._erased, (len(org_ids) + 1) * sizeof(Erased))
        if more == NULL:
            raise MemoryError
        self._erased = <Erased*>more
        for i, org_id in enumerate(sorted(org_ids)):
            self._erased[i] = Erased(org_id, erased_mark(org_id))
        self._erased_count, self._erased_ids = len(org_ids), org_ids
        return 0

    cdef int _place(self, int64_t number, reason, admit) except -1:
        """Ask as what the reason of kinds is stored, which stays so in this chunk."""
        cdef int64_t room
        if number >= self._reason_room:
            room = 2 * number + 64
            more = realloc(self._reason_of, room * sizeof(int32_t))
            if more == NULL:
                raise MemoryError
            self._reason_of = <int32_t*>more
            memset(self._reason_of + self._reason_room, 0xFF, (room - self._reason_room) * sizeof(int32_t))
            self._reason_room = room
        if self._reason_of[number] < 0:
            self._reason_of[number] = self._reason_number(admit(reason))
        return 0

    cdef int32_t _reason_number(self, reason) except -1:
        number = self._reason_numbers.get(reason)
        if number is None:
            number = self._reason_numbers[reason] = len(self._reasons)
            self._reasons.append(reason)
        return number

    cdef CompiledCell _cell(self, int64_t number):
        cdef CompiledCell cell = CompiledCell.__new__(CompiledCell)
        cell._cells, cell._number = self, number
        return cell

    cdef _key_of(self, Whole* row):
        family = FAMILIES[row.key.family]
        parts = _PARTS[row.key.family][: len(family.key._fields)]
        return family.key(*[_part_of(row, part, self._reasons) for part in parts])


cdef _part_of(const Whole* row, int part, list reasons):
    if part == BUCKET:
        return row.key.bucket
    if part == CATEGORY_ID:
        return row.key.category
    if part == OUTCOME_ID:
        return row.key.outcome
    if part == REASON:
        return reasons[row.key.reason]
    if part == WIDTH_OF_TOTAL:
        return row.key.width
    return _wide_part_of(row, part)


cdef inline uint64_t _wide_part_of(const Whole* row, int part) noexcept nogil:
    if part == ORG_ID:
        return row.key.org_id
    if part == PROJECT_ID:
        return row.key.project_id
    if part == KEY_ID:
        return row.key.key_id
    return LARGEST if row.values[part - FIRST_VALUE].high else row.values[part - FIRST_VALUE].low


cdef uint64_t _hash_of(const CellKey* key) noexcept nogil:
    """Of no consequence but for speed; with a seed, so that nobody can make keys that meet in one slot."""
    cdef uint64_t words[5]
    cdef uint64_t hash = SEED
    cdef int i
    memcpy(words, key, sizeof(words))
    for i in range(5):
        hash = _mixed(hash ^ words[i], 0x9E3779B97F4A7C15)
    return hash


cdef _sum(const Sum* sum):
    return (<object>sum.high << 64) | <object>sum.low
