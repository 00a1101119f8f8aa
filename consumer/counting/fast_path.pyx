# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Counts records without decoding each: those of one kind differ only in what no count depends on.

The kind of a record is its text without its time and the values that are not counted; of an event that nobody has
classified, also the number of the first rule that matches. So the first of a kind, decoded with all care, speaks for the
others. Only plain text has a kind: an object of strings in UTF-8 (without \\u, and without control characters),
integers of up to 18 digits, and nulls, whose time is spelled in UTC with a Z. In a field that nobody knows there may also
be objects, lists, true and false. Any other record is odd, and left to the caller. Records of one kind and one ten
seconds are counted together; kinds are remembered, counts until they are taken.

The interpreter is asked about the first record of a kind and about each value of a field that rules ask for, once; the
rest is done without it, and without its lock.

Nothing here reads beyond a value: `packed` puts a 0 behind its bytes, and no step goes over a 0.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from itertools import count
from typing import get_args

from msgspec.json import decode as json_decode
from msgspec.structs import fields

from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import BUCKET_SECONDS, DEFAULT_CATEGORY, LAST_BUCKET

cdef enum:
    LONGEST = 1000  # a longer record is odd, so that a kind has a place on the stack
    MOST_FIELDS = 31
    MOST_DIGITS = 18  # of an id or a quantity; with one more it might be out of bounds
    DEEPEST = 32  # objects and lists in each other, in a field that nobody knows
    TEXT = 1
    DIGIT = 2
    ESCAPED = 4

cdef uint8_t CLASS[256]
cdef int _byte
for _byte in range(256):
    CLASS[_byte] = TEXT if 0x20 <= _byte < 0x80 and _byte not in b'"\\' else 0
for _byte in b"0123456789":
    CLASS[_byte] |= DIGIT
for _byte in b'"\\/bfnrt':
    CLASS[_byte] |= ESCAPED

_NAMES = [field.encode_name.encode() for field in fields(Event)]  # in the order producers write them
_COUNTED = {b"org_id", b"project_id", b"key_id", b"outcome", b"reason", b"category", b"quantity"}
cdef int FIELDS = len(_NAMES)
if FIELDS > MOST_FIELDS:
    raise RuntimeError(f"orgstats.consumer.counting.fast_path has room for {MOST_FIELDS} fields, Event has {FIELDS}")
cdef int TIMESTAMP = _NAMES.index(b"timestamp")
cdef int OUTCOME = _NAMES.index(b"outcome")
cdef struct Field:
    const uint8_t* name
    Py_ssize_t length
    bint counted
    bint text
cdef Field FIELD[MOST_FIELDS]
for _byte in range(FIELDS):
    FIELD[_byte] = Field(
        <const uint8_t*><const char*>_NAMES[_byte],
        len(_NAMES[_byte]),
        _NAMES[_byte] in _COUNTED,
        str in get_args(fields(Event)[_byte].type),
    )

cdef enum:
    TIME_LENGTH = 19
    TENS = 17  # place of a second's first digit
    SHORTEST_TIME = 22  # with quotes and Z
    MOST_NAMES = 32  # fields of a record whose names are remembered by their place
cdef int64_t WIDTH = BUCKET_SECONDS
cdef int64_t LATEST = LAST_BUCKET
cdef uint8_t CATEGORY = DEFAULT_CATEGORY
cdef enum:
    HEAD = 24  # bytes before each value in what `packed` gives


cdef extern from *:
    """
    /* The two halves of a product, folded: every bit of the text comes to bear on every bit of the hash. */
    static inline uint64_t mixed(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    static inline int lowest(uint64_t bits) { return __builtin_ctzll(bits); }

    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define EIGHT_AT_A_TIME 1
    #endif
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif
    static const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;

    /* The first byte, or the last few before `end`, that may be none of a string's plain ones: a quote, a backslash, a
     * control character, or not ASCII. Many at a time; what is flagged above a byte that is one may be none. */
    static inline const uint8_t *plain_end(const uint8_t *at, const uint8_t *end) {
    #ifdef __SSE2__
        for (; end - at >= 16; at += 16) {
            const __m128i text = _mm_loadu_si128((const __m128i *)at);
            const __m128i other = _mm_or_si128(
                _mm_cmplt_epi8(text, _mm_set1_epi8(0x20)), /* signed: what is not ASCII is less, too */
                _mm_or_si128(_mm_cmpeq_epi8(text, _mm_set1_epi8('"')), _mm_cmpeq_epi8(text, _mm_set1_epi8('\\\\'))));
            const int found = _mm_movemask_epi8(other);
            if (found)
                return at + __builtin_ctz((unsigned)found);
        }
    #endif
    #ifdef EIGHT_AT_A_TIME
        uint64_t eight, quote, backslash, found;
        for (; end - at >= 8; at += 8) {
            memcpy(&eight, at, 8);
            quote = eight ^ ('"' * ones);
            backslash = eight ^ ('\\\\' * ones);
            found = (eight | ((eight - 0x20 * ones) & ~eight) | ((quote - ones) & ~quote)
                     | ((backslash - ones) & ~backslash)) & high;
            if (found)
                return at + __builtin_ctzll(found) / 8;
        }
    #endif
        return at;
    }

    /* Behind the digits that stand here. */
    static inline const uint8_t *digits_end(const uint8_t *at, const uint8_t *end) {
    #ifdef EIGHT_AT_A_TIME
        uint64_t eight, found;
        for (; end - at >= 8; at += 8) {
            memcpy(&eight, at, 8);
            eight ^= '0' * ones;
            found = ((eight + 0x76 * ones) | eight) & high; /* 9 + 0x76 is the last that is below 0x80 */
            if (found)
                return at + __builtin_ctzll(found) / 8;
        }
    #endif
        while ((uint8_t)(at[0] - '0') < 10)
            at++;
        return at;
    }

    /* Whether the eight bytes are digits where the pattern has a 0, and as in the pattern elsewhere. */
    static inline int is_like(const uint8_t *at, const char *pattern) {
        int i, is = 1;
        for (i = 0; i < 8; i++)
            is &= pattern[i] == '0' ? (uint8_t)(at[i] - '0') < 10 : at[i] == (uint8_t)pattern[i];
        return is;
    }

    /* Whether 2026-01-31T23:59:59 stands here, or any other digits. */
    static inline int is_time(const uint8_t *at) {
        return is_like(at, "0000-00-") & is_like(at + 8, "00T00:00") & is_like(at + 11, "00:00:00");
    }

    /* The name of a field as it was last spelled at its place among the fields, with its quotes and the colon. */
    typedef struct { uint8_t text[24]; int32_t length, field; } Name;

    /* Whether it stands here. Names of other lengths than 8 to 24 are not kept. */
    static inline int same_name(const Name *name, const uint8_t *at, const uint8_t *end) {
        const int last = name->length - 8, middle = last < 8 ? last : 8;
        uint64_t one, another, other;
        if (last < 0 || end - at < name->length)
            return 0;
        memcpy(&one, name->text, 8), memcpy(&another, at, 8);
        other = one ^ another;
        memcpy(&one, name->text + middle, 8), memcpy(&another, at + middle, 8);
        other |= one ^ another;
        memcpy(&one, name->text + last, 8), memcpy(&another, at + last, 8);
        return !(other | (one ^ another));
    }

    /* Copy a value; up to 15 bytes behind it are written, too. */
    static inline void copy_value(uint8_t *to, const uint8_t *from, ptrdiff_t size, const uint8_t *end) {
        if (size <= 16 && end - from >= 16)
            memcpy(to, from, 16);
        else
            memcpy(to, from, size);
    }

    static inline int digits(const uint8_t *at) { return 10 * (at[0] - '0') + at[1] - '0'; }

    /* Seconds since 1970 at which a day begins whose digits are in their places; -1 if there is none, or it is before. */
    static inline int64_t day_of(const uint8_t *at) {
        static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        const int year = 100 * digits(at) + digits(at + 2), month = digits(at + 5), day = digits(at + 8);
        const int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        const int y = year - (month <= 2), of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days[month - 1] + (month == 2 && leap))
            return -1;
        return (365 * (int64_t)y + y / 4 - y / 100 + y / 400 + of_year - 719468) * 86400;
    }

    /* A day as it is spelled, and when it begins: that of the last record, which is nearly always that of the next. */
    typedef struct { uint8_t text[10]; int64_t begins; } Day;

    /* Seconds since 1970 of a time whose digits are in their places; -1 if there is none such, or it is before. */
    static inline int64_t second_of(const uint8_t *at, Day *day) {
        const int hour = digits(at + 11), minute = digits(at + 14);
        if (memcmp(day->text, at, sizeof day->text)) {
            memcpy(day->text, at, sizeof day->text);
            day->begins = day_of(at);
        }
        if (day->begins < 0 || hour > 23 || minute > 59)
            return -1;
        return day->begins + hour * 3600 + minute * 60 + digits(at + 17);
    }
    """
    ctypedef struct Name:
        uint8_t text[24]
        int32_t length
        int32_t field

    ctypedef struct Day:
        pass

    uint64_t _mixed "mixed"(uint64_t, uint64_t) noexcept nogil
    int _lowest "lowest"(uint64_t) noexcept nogil
    const uint8_t* _plain_end "plain_end"(const uint8_t*, const uint8_t*) noexcept nogil
    const uint8_t* _digits_end "digits_end"(const uint8_t*, const uint8_t*) noexcept nogil
    bint _is_time "is_time"(const uint8_t*) noexcept nogil
    bint _same_name "same_name"(const Name*, const uint8_t*, const uint8_t*) noexcept nogil
    void _copy_value "copy_value"(uint8_t*, const uint8_t*, Py_ssize_t, const uint8_t*) noexcept nogil
    int64_t _second_of "second_of"(const uint8_t*, Day*) noexcept nogil


def packed(run):
    """Records in a row: offset, timestamp, length of the value (-1 without one), in 8 bytes each; the value; a 0."""
    cdef list values = [record.value() for record in run]
    cdef Py_ssize_t size = 0, at = 0
    cdef int64_t head[3]
    cdef char* to
    for value in values:
        size += HEAD + 1 + (PyBytes_GET_SIZE(value) if value is not None else 0)
    row = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(row)
    for record in run:
        value = values[at]
        head[0] = record.offset()
        head[1] = record.timestamp()[1]
        head[2] = PyBytes_GET_SIZE(value) if value is not None else -1
        memcpy(to, head, HEAD)
        to += HEAD
        if head[2] > 0:
            memcpy(to, PyBytes_AS_STRING(value), head[2])
            to += head[2]
        to[0] = 0
        to += 1
        at += 1
    return row

cdef enum:
    LONGEST_VALUE = 258  # with its quotes; a record with a longer one that rules ask for is odd
    MOST_VALUES = 65536  # of a field that are remembered; then it starts anew
    SUFFIX = 13  # bytes of a kind that say which rule matched


cdef struct Slot:
    uint64_t hash
    int64_t at
    int32_t length  # -1: free
    int32_t number


cdef struct Table:
    # Texts, and the number of each: a hash table with linear probing.
    Slot* slots
    int64_t room
    int64_t used
    uint8_t* text
    int64_t size
    int64_t text_room


cdef struct Spelling:
    # What the last record was like, and the next one is likely to be.
    Name names[MOST_NAMES]
    Day day


cdef struct Token:
    # The last value of a field in a record, as it is spelled.
    const uint8_t* at
    Py_ssize_t length


cdef struct Known:
    # The values of one field that were met, and the rules that each leaves possible: `words` words of bits a value.
    int field
    Table values
    uint64_t* bits
    int64_t room


cdef struct Entry:
    # The rules that are in force from a Kafka timestamp on.
    int64_t effective_from_ms
    int words
    int fields
    Known* known


cdef struct Kind:
    # What records of a kind count as, but for their bucket; what is absent is what it counts as.
    uint64_t org_id
    uint64_t project_id
    uint64_t key_id
    uint64_t quantity
    int32_t reason  # its number, -1 for kinds whose records are odd
    uint8_t category
    uint8_t outcome


cdef struct Cell:
    # Records of one kind in one bucket.
    uint32_t kind
    uint32_t bucket
    uint64_t events


cdef struct Scan:
    # Where counting a row stands; and for what it stopped: the length of a new kind's text, an unknown value, or a kind.
    const char* value
    const char* end
    int64_t at
    int64_t highest
    int64_t* odd
    int64_t odds
    int64_t head[3]
    Py_ssize_t length
    uint64_t hash
    Entry* entry
    Known* known
    uint32_t kind
    uint32_t bucket
    uint32_t present  # bits of the fields that the record has
    Token tokens[MOST_FIELDS]
    uint8_t text[LONGEST + SUFFIX + 16]


cdef enum:
    END
    NEW_KIND
    NEW_VALUE
    NEW_REASON
    NO_MEMORY
    ODD
    FOUND

cdef const char* NULL_TEXT = b"null"
_generations = count()


cdef class Classifier:
    """What is known of rules: which of them each value leaves possible. For a `RuleHistory` that does not change."""

    cdef readonly object history
    cdef int32_t _generation  # tells the kinds of two histories apart
    cdef int _count
    cdef Entry* _entries

    def __init__(self, history):
        cdef int i, n
        cdef Entry* entry
        self.history = history
        self._generation = next(_generations)
        self._entries = <Entry*>calloc(max(len(history.entries), 1), sizeof(Entry))
        if self._entries == NULL:
            raise MemoryError
        for i, (one, first_match) in enumerate(zip(history.entries, history.first_matches, strict=True)):
            entry = &self._entries[i]
            entry.effective_from_ms = one.effective_from_ms
            entry.words = (len(one.rules) + 63) // 64
            entry.known = <Known*>calloc(max(len(first_match.fields), 1), sizeof(Known))
            if entry.known == NULL:
                raise MemoryError
            entry.fields = len(first_match.fields)
            for n, name in enumerate(first_match.fields):
                entry.known[n].field = _NAMES.index(name.encode())
            self._count = i + 1

    def __dealloc__(self):
        cdef int i, n
        for i in range(self._count):
            for n in range(self._entries[i].fields):
                _empty(&self._entries[i].known[n].values)
                free(self._entries[i].known[n].bits)
            free(self._entries[i].known)
        free(self._entries)

    cdef Entry* _in_force(self, int64_t ms) noexcept nogil:
        """The last entry that is not after the timestamp, NULL when there is none."""
        cdef int low = 0, high = self._count, middle
        while low < high:
            middle = (low + high) // 2
            if self._entries[middle].effective_from_ms <= ms:
                low = middle + 1
            else:
                high = middle
        return &self._entries[low - 1] if low else NULL

    cdef int _learn(self, Scan* scan) except -1:
        """Ask which rules the unknown value leaves possible."""
        cdef Known* known = scan.known
        cdef Entry* entry = scan.entry
        cdef Token token = _token(scan, known.field)
        cdef int64_t number, room
        cdef int word
        if known.values.used >= MOST_VALUES:
            _empty(&known.values)
        number = known.values.used
        if number >= known.room:
            room = 2 * known.room + 64
            more = realloc(known.bits, room * entry.words * sizeof(uint64_t))
            if more == NULL:
                raise MemoryError
            known.bits, known.room = <uint64_t*>more, room
        left = self.history.first_matches[entry - self._entries].left_by(
            _NAMES[known.field].decode(), json_decode(PyBytes_FromStringAndSize(<const char*>token.at, token.length))
        )
        for word in range(entry.words):
            known.bits[number * entry.words + word] = (left >> (64 * word)) & 0xFFFFFFFFFFFFFFFF
        if not _put(&known.values, token.at, token.length, _hash(token.at, token.length), <int32_t>number):
            raise MemoryError
        return 0


cdef class Kinds:
    """Kinds that were met, and what each of them is: remembered for all partitions that are counted alike."""

    cdef Table _texts
    cdef list _what  # (what stands before the bucket in its keys, what stands behind it); None for odd ones
    cdef dict _numbers  # by reason
    cdef list _reasons
    cdef Kind* _kinds
    cdef int64_t _room

    def __init__(self):
        self._what = []
        self._numbers = {}
        self._reasons = []

    def __dealloc__(self):
        _empty(&self._texts)
        free(self._kinds)

    def __len__(self):
        return len(self._what)

    cdef int _meet(self, Scan* scan, what) except -1:
        """Remember what the kind is that the scan has stopped at."""
        cdef int64_t number = len(self._what), room
        cdef Kind* kind
        if number >= self._room:
            room = 2 * self._room + 256
            more = realloc(self._kinds, room * sizeof(Kind))
            if more == NULL:
                raise MemoryError
            self._kinds, self._room = <Kind*>more, room
        kind = &self._kinds[number]
        kind.reason = -1
        if what is not None:
            before, behind, reason = what
            kind.org_id, kind.project_id, kind.key_id = [one or 0 for one in before]
            category, kind.outcome, _, quantity = behind
            kind.category = CATEGORY if category is None else category
            kind.quantity = 1 if quantity is None else quantity
            if reason not in self._numbers:
                self._numbers[reason] = len(self._reasons)
                self._reasons.append(reason)
            kind.reason = self._numbers[reason]
            what = before, behind
        self._what.append(what)
        if not _put(&self._texts, scan.text, scan.length, scan.hash, <int32_t>number):
            raise MemoryError
        return 0

    cdef _key(self, Cell cell):
        before, behind = self._what[cell.kind]
        return before + (cell.bucket,) + behind


cdef class FastPath:
    """How many records of each kind and bucket were seen since they were last taken.

    `max_age_seconds` and `max_ahead_seconds` are those of `orgstats.consumer.counting.decode.AgeLimits`.
    """

    cdef Kinds _kinds  # those that the cells are of
    cdef Cell* _cells  # first seen first
    cdef int64_t _count
    cdef int32_t* _index  # numbers of cells, -1: free; a hash table with linear probing
    cdef int64_t _index_room
    cdef list _placed  # the numbers of reasons that are in their place
    cdef uint8_t* _is_placed
    cdef int64_t _reasons
    cdef list _taken  # of kinds before these
    cdef int64_t _max_age, _max_ahead
    cdef Spelling _spelling

    def __init__(self, int64_t max_age_seconds, int64_t max_ahead_seconds):
        self._placed = []
        self._taken = []
        self._max_age = max_age_seconds
        self._max_ahead = max_ahead_seconds

    def __dealloc__(self):
        free(self._cells)
        free(self._index)
        free(self._is_placed)

    def count(self, const uint8_t[::1] row, Classifier rules, Kinds kinds, first, place, list odd):
        """Count `packed` records; the places of the odd ones are added to `odd`, in order.

        `first(value, timestamp_ms)` is asked at the first record of a kind what all of them are: the key before the
        bucket, the key behind it, and the reason; or None for a kind whose records are odd. `place(key)` is told the key
        of the first record of each reason since the last `take`. By then `odd` has all that come before it.

        Gives the highest Kafka timestamp in milliseconds, -1 if there is none.
        """
        cdef Scan scan
        cdef int stopped = NEW_KIND
        cdef int64_t i
        memset(&scan, 0, sizeof(scan))
        scan.value = <const char*>&row[0] if row.shape[0] else NULL
        scan.end = scan.value + row.shape[0]
        scan.highest = -1
        scan.odd = <int64_t*>malloc((row.shape[0] // (HEAD + 1) + 1) * sizeof(int64_t))
        if scan.odd == NULL:
            raise MemoryError
        if kinds is not self._kinds:
            self._taken = self.take()
            self._kinds = kinds
        try:
            while stopped != END:
                with nogil:
                    stopped = self._scan(&scan, rules, kinds)
                odd.extend([scan.odd[i] for i in range(scan.odds)])
                scan.odds = 0
                if stopped == NEW_KIND:
                    kinds._meet(&scan, first(PyBytes_FromStringAndSize(scan.value + HEAD, scan.head[2]), scan.head[1]))
                elif stopped == NEW_VALUE:
                    rules._learn(&scan)
                elif stopped == NEW_REASON:
                    place(kinds._key(Cell(scan.kind, scan.bucket, 0)))
                    self._is_in_place(kinds._kinds[scan.kind].reason)
                elif stopped == NO_MEMORY:
                    raise MemoryError
        finally:
            free(scan.odd)
        return scan.highest

    def take(self):
        """(key, records) of each kind and bucket that has any, first seen first; nothing is kept but the kinds."""
        cdef int64_t i
        taken = self._taken + [(self._kinds._key(self._cells[i]), self._cells[i].events) for i in range(self._count)]
        self._clear()
        return taken

    def take_earlier(self):
        """The same of those of kinds that are not known any more, which are left out of what is pending."""
        taken, self._taken = self._taken, []
        return taken

    cdef _clear(self):
        """Nothing is pending any more."""
        cdef int64_t i
        self._taken = []
        if self._count:
            memset(self._index, 0xFF, self._index_room * sizeof(int32_t))
        self._count = 0
        for i in self._placed:
            self._is_placed[i] = False
        self._placed.clear()

    cdef int _is_in_place(self, int32_t reason) except -1:
        cdef int64_t room
        if reason >= self._reasons:
            room = 2 * <int64_t>reason + 64
            more = realloc(self._is_placed, room)
            if more == NULL:
                raise MemoryError
            self._is_placed = <uint8_t*>more
            memset(self._is_placed + self._reasons, 0, room - self._reasons)
            self._reasons = room
        self._is_placed[reason] = True
        self._placed.append(reason)
        return 0

    cdef int _scan(self, Scan* scan, Classifier rules, Kinds kinds) noexcept nogil:
        """Count records until there is something to ask, or no more of them."""
        cdef int found
        while scan.value < scan.end:
            memcpy(scan.head, scan.value, HEAD)
            found = self._count_one(scan, rules, kinds)
            if found == ODD:
                scan.odd[scan.odds] = scan.at
                scan.odds += 1
            elif found != FOUND:
                return found
            scan.highest = max(scan.highest, scan.head[1])
            scan.value += HEAD + max(scan.head[2], 0) + 1
            scan.at += 1
        return END

    cdef inline int _count_one(self, Scan* scan, Classifier rules, Kinds kinds) noexcept nogil:
        cdef int found
        cdef int32_t reason
        cdef int64_t bucket
        cdef Cell* cell
        if not 0 < scan.head[2] <= LONGEST:
            return ODD
        scan.length = _kind(<const uint8_t*>scan.value + HEAD, scan.head[2], scan, self._spelling.names)
        if not scan.length or not _has(scan, TIMESTAMP):
            return ODD
        bucket = _second_of(scan.tokens[TIMESTAMP].at + 1, &self._spelling.day)
        if not 0 <= bucket < LATEST + WIDTH:
            return ODD
        bucket -= bucket % WIDTH
        if not self._in_bounds(bucket, scan.head[1]):
            return ODD
        if not _has(scan, OUTCOME) or scan.tokens[OUTCOME].at[0] == c"n":
            found = _classify(scan, rules)
            if found != FOUND:
                return found
        scan.hash = _hash(scan.text, scan.length)
        found = _find(&kinds._texts, scan.text, scan.length, scan.hash)
        if found < 0:
            return NEW_KIND
        reason = kinds._kinds[found].reason
        if reason < 0:
            return ODD
        if reason >= self._reasons or not self._is_placed[reason]:
            scan.kind, scan.bucket = found, <uint32_t>bucket
            return NEW_REASON
        cell = self._cell(found, <uint32_t>bucket)
        if cell == NULL:
            return NO_MEMORY
        cell.events += 1
        return FOUND

    cdef inline Cell* _cell(self, uint32_t kind, uint32_t bucket) noexcept nogil:
        """The cell of a kind and a bucket, added if it is not there; NULL without memory."""
        cdef int64_t at
        cdef Cell* cell
        if 2 * (self._count + 1) > self._index_room and not self._widen():
            return NULL
        at = _mixed_cell(kind, bucket) & (self._index_room - 1)
        while self._index[at] >= 0:
            cell = &self._cells[self._index[at]]
            if cell.kind == kind and cell.bucket == bucket:
                return cell
            at = (at + 1) & (self._index_room - 1)
        self._index[at] = <int32_t>self._count
        cell = &self._cells[self._count]
        cell[0] = Cell(kind, bucket, 0)
        self._count += 1
        return cell

    cdef bint _widen(self) noexcept nogil:
        """Room for twice as many cells; false without memory."""
        cdef int64_t room = 2 * self._index_room if self._index_room else 256
        cdef int64_t i, at
        cells = realloc(self._cells, (room // 2 + 1) * sizeof(Cell))
        if cells == NULL:
            return False
        self._cells = <Cell*>cells
        index = realloc(self._index, room * sizeof(int32_t))
        if index == NULL:
            return False
        self._index, self._index_room = <int32_t*>index, room
        memset(self._index, 0xFF, room * sizeof(int32_t))
        for i in range(self._count):
            at = _mixed_cell(self._cells[i].kind, self._cells[i].bucket) & (room - 1)
            while self._index[at] >= 0:
                at = (at + 1) & (room - 1)
            self._index[at] = <int32_t>i
        return True

    cdef inline bint _in_bounds(self, int64_t bucket, int64_t ms) noexcept nogil:
        """Whether each time in the bucket is within the limits of a Kafka timestamp; so a record without one is odd."""
        cdef int64_t second = ms // 1000
        return ms >= 0 and second - self._max_age < bucket <= second + self._max_ahead - WIDTH


cdef inline uint64_t _mixed_cell(uint32_t kind, uint32_t bucket) noexcept nogil:
    return _mixed((<uint64_t>kind << 32 | bucket) ^ SEED, 0x9E3779B97F4A7C15)


cdef int _classify(Scan* scan, Classifier rules) noexcept nogil:
    """Add the first rule that matches to the kind: the lowest of the bits that all its values leave."""
    cdef Entry* entry = rules._in_force(scan.head[1])
    cdef Known* known
    cdef Token token
    cdef int n, word, number
    cdef uint64_t left
    cdef int32_t place = -1, rule = -1
    cdef int numbers[MOST_FIELDS]
    if entry != NULL:
        place = <int32_t>(entry - rules._entries)
        for n in range(entry.fields):
            known = &entry.known[n]
            token = _token(scan, known.field)
            if token.length > LONGEST_VALUE or (token.at[0] != c"n" and FIELD[known.field].text != (token.at[0] == c'"')):
                return ODD
            numbers[n] = _find(&known.values, token.at, token.length, _hash(token.at, token.length))
            if numbers[n] < 0:
                scan.entry, scan.known = entry, known
                return NEW_VALUE
        for word in range(entry.words):
            left = <uint64_t>-1
            for n in range(entry.fields):
                left &= entry.known[n].bits[numbers[n] * entry.words + word]
            if left:
                rule = 64 * word + _lowest(left)
                break
    scan.text[scan.length] = 0x80 + MOST_FIELDS
    memcpy(scan.text + scan.length + 1, &rules._generation, 4)
    memcpy(scan.text + scan.length + 5, &place, 4)
    memcpy(scan.text + scan.length + 9, &rule, 4)
    scan.length += SUFFIX
    return FOUND


cdef inline Token _token(Scan* scan, int field) noexcept nogil:
    return scan.tokens[field] if _has(scan, field) else Token(<const uint8_t*>NULL_TEXT, 4)


cdef inline bint _has(const Scan* scan, int field) noexcept nogil:
    return scan.present >> field & 1


cdef inline int _find(Table* table, const uint8_t* text, Py_ssize_t length, uint64_t hash) noexcept nogil:
    """The number of a text, -1 when it is not there."""
    cdef Slot* slot
    cdef int64_t at
    if not table.room:
        return -1
    at = hash & (table.room - 1)
    while True:
        slot = &table.slots[at]
        if slot.length < 0:
            return -1
        if slot.hash == hash and slot.length == length and memcmp(table.text + slot.at, text, length) == 0:
            return slot.number
        at = (at + 1) & (table.room - 1)


cdef bint _put(Table* table, const uint8_t* text, Py_ssize_t length, uint64_t hash, int32_t number) noexcept nogil:
    """Add a text that is not there; false without memory."""
    cdef int64_t room
    if 2 * (table.used + 1) > table.room and not _widen(table):
        return False
    if table.size + length > table.text_room:
        room = 2 * table.text_room + length + 4096
        more = realloc(table.text, room)
        if more == NULL:
            return False
        table.text, table.text_room = <uint8_t*>more, room
    memcpy(table.text + table.size, text, length)
    _settle(table.slots, table.room, Slot(hash, table.size, <int32_t>length, number))
    table.size += length
    table.used += 1
    return True


cdef bint _widen(Table* table) noexcept nogil:
    cdef int64_t room = 2 * table.room if table.room else 256
    cdef int64_t i
    cdef Slot* slots = <Slot*>malloc(room * sizeof(Slot))
    if slots == NULL:
        return False
    memset(slots, 0xFF, room * sizeof(Slot))
    for i in range(table.room):
        if table.slots[i].length >= 0:
            _settle(slots, room, table.slots[i])
    free(table.slots)
    table.slots, table.room = slots, room
    return True


cdef inline void _settle(Slot* slots, int64_t room, Slot slot) noexcept nogil:
    cdef int64_t at = slot.hash & (room - 1)
    while slots[at].length >= 0:
        at = (at + 1) & (room - 1)
    slots[at] = slot


cdef void _empty(Table* table) noexcept nogil:
    free(table.slots)
    free(table.text)
    memset(table, 0, sizeof(Table))


cdef uint64_t SEED = hash("orgstats.consumer.counting.fast_path") & 0xFFFFFFFFFFFFFFFF  # another in each process


cdef inline uint64_t _hash(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    """Of no consequence but for speed; with a seed, so that nobody can make records that meet in one slot."""
    cdef uint64_t hash = SEED ^ <uint64_t>length
    cdef uint64_t eight
    while length >= 8:
        memcpy(&eight, text, 8)
        hash = _mixed(hash ^ eight, SEED | 1)
        text += 8
        length -= 8
    eight = 0
    memcpy(&eight, text, length)
    return _mixed(hash ^ eight, 0x9E3779B97F4A7C15)


cdef inline Py_ssize_t _kind(const uint8_t* at, Py_ssize_t size, Scan* scan, Name* names) noexcept nogil:
    """Write the kind of the record that begins at `at`, and give its length; 0 for an odd one. Fields go to `tokens`.

    For each field it has a byte that no value begins with, then the value, which says itself where it ends, or only its
    type, or, of the time, nothing; a field that nobody knows is left out. So it is shorter than the record, and no two
    kinds have the same text.
    """
    cdef const uint8_t* last = at + size
    cdef const uint8_t* end
    cdef uint8_t* out = scan.text
    cdef int field = -1, place = 0
    scan.present = 0
    if at[0] != c"{":
        return 0
    while True:
        at = _after_spaces(at + 1)
        if place < MOST_NAMES and _same_name(&names[place], at, last):
            field = names[place].field
            at += names[place].length
        else:
            end = _string_end(at, last)
            if end == NULL or end[0] != c":":
                return 0
            field = _field(at + 1, end - at - 2, field)
            if place < MOST_NAMES:
                _keep_name(&names[place], at, end + 1 - at, field)
            at = end + 1
        place += 1
        at = _after_spaces(at)
        if field == TIMESTAMP:
            end = _time_end(at, last)
        elif field >= 0:
            end = _value_end(at, last)
        else:
            end = _unknown_end(at, last)
        if end == NULL:
            return 0
        if field >= 0:
            scan.present |= <uint32_t>1 << field
            scan.tokens[field].at, scan.tokens[field].length = at, end - at
            out[0] = 0x80 + field
            out += 1
            if FIELD[field].counted:
                _copy_value(out, at, end - at, last)
                out += end - at
            elif field != TIMESTAMP:
                out[0] = c"0" if CLASS[at[0]] & DIGIT else at[0]
                out += 1
        at = _after_spaces(end)
        if at[0] == c"}":
            return out - scan.text if at + 1 == last else 0
        if at[0] != c",":
            return 0


cdef inline void _keep_name(Name* name, const uint8_t* at, Py_ssize_t length, int field) noexcept nogil:
    name.length = <int32_t>length if length <= <Py_ssize_t>sizeof(name.text) else 0
    memcpy(name.text, at, name.length)
    name.field = field


cdef inline int _field(const uint8_t* name, Py_ssize_t length, int before) noexcept nogil:
    """Which field has this name, -1 for none; tried first is the one after `before`, where it usually is."""
    cdef int field = before
    cdef int _
    for _ in range(FIELDS):
        field = field + 1 if field + 1 < FIELDS else 0
        if FIELD[field].length == length and memcmp(FIELD[field].name, name, length) == 0:
            return field
    return -1


cdef inline const uint8_t* _after_spaces(const uint8_t* at) noexcept nogil:
    while at[0] == c" ":
        at += 1
    return at


cdef inline const uint8_t* _value_end(const uint8_t* at, const uint8_t* last) noexcept nogil:
    """Where a plain value ends, NULL where none begins."""
    if at[0] == c'"':
        return _string_end(at, last)
    if at[0] == c"n":
        return at + 4 if at[1] == c"u" and at[2] == c"l" and at[3] == c"l" else NULL
    return _integer_end(at, last)


cdef const uint8_t* _unknown_end(const uint8_t* at, const uint8_t* last) noexcept nogil:
    """Behind the value of a field that nobody knows and spaces, NULL where none begins or one that is odd."""
    cdef uint64_t objects = 0  # a bit for each that is open, the innermost lowest: whether it is an object, not a list
    cdef int depth = 0
    while True:
        if objects & 1:
            at = _after_name(at, last)
            if at == NULL:
                return NULL
        if at[0] == c"{" or at[0] == c"[":
            if depth == DEEPEST:
                return NULL
            depth += 1
            objects = objects << 1 | (at[0] == c"{")
            at = _after_spaces(at + 1)
            if at[0] != _closing(objects):
                continue
        else:
            at = _word_end(at) if at[0] == c"t" or at[0] == c"f" else _value_end(at, last)
            if at == NULL:
                return NULL
            at = _after_spaces(at)
        while depth and at[0] == _closing(objects):
            depth -= 1
            objects >>= 1
            at = _after_spaces(at + 1)
        if not depth:
            return at
        if at[0] != c",":
            return NULL
        at = _after_spaces(at + 1)


cdef inline uint8_t _closing(uint64_t objects) noexcept nogil:
    return c"}" if objects & 1 else c"]"


cdef inline const uint8_t* _after_name(const uint8_t* at, const uint8_t* last) noexcept nogil:
    """Where the value behind a name in an object begins, NULL where there is no name."""
    at = _string_end(at, last)
    if at == NULL:
        return NULL
    at = _after_spaces(at)
    return _after_spaces(at + 1) if at[0] == c":" else NULL


cdef inline const uint8_t* _word_end(const uint8_t* at) noexcept nogil:
    """Where true or false ends, NULL where neither begins."""
    if at[0] == c"t":
        return at + 4 if at[1] == c"r" and at[2] == c"u" and at[3] == c"e" else NULL
    return at + 5 if at[1] == c"a" and at[2] == c"l" and at[3] == c"s" and at[4] == c"e" else NULL


cdef inline const uint8_t* _string_end(const uint8_t* at, const uint8_t* last) noexcept nogil:
    if at[0] != c'"':
        return NULL
    at += 1
    while True:
        at = _plain_end(at, last)
        while CLASS[at[0]] & TEXT:
            at += 1
        if at[0] == c'"':
            return at + 1
        at = _after_escape(at) if at[0] == c"\\" else _after_character(at)
        if at == NULL:
            return NULL


cdef inline const uint8_t* _after_escape(const uint8_t* at) noexcept nogil:
    """Behind a backslash and the one character that JSON allows after it; \\u is odd."""
    return at + 2 if CLASS[at[1]] & ESCAPED else NULL


cdef inline const uint8_t* _after_character(const uint8_t* at) noexcept nogil:
    """Behind a character of two to four bytes, NULL where none is: the shortest form, no surrogate, none beyond Unicode."""
    cdef uint8_t first = at[0], second
    if first < 0xC2 or first > 0xF4:
        return NULL
    second = at[1]
    if second & 0xC0 != 0x80:
        return NULL
    if first < 0xE0:
        return at + 2
    if at[2] & 0xC0 != 0x80:
        return NULL
    if first < 0xF0:
        if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
            return NULL
        return at + 3
    if at[3] & 0xC0 != 0x80:
        return NULL
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return NULL
    return at + 4


cdef inline const uint8_t* _integer_end(const uint8_t* at, const uint8_t* last) noexcept nogil:
    cdef const uint8_t* begin = at
    at = _digits_end(at, last)
    if at == begin or at - begin > MOST_DIGITS or (begin[0] == c"0" and at - begin > 1):
        return NULL
    return at


cdef inline const uint8_t* _time_end(const uint8_t* at, const uint8_t* last) noexcept nogil:
    """Where a time in UTC ends, NULL where none begins; a leap second is none."""
    if last - at < SHORTEST_TIME or at[0] != c'"' or not _is_time(at + 1) or at[1 + TENS] > c"5":
        return NULL
    at += 1 + TIME_LENGTH
    if at[0] == c"." and CLASS[at[1]] & DIGIT:
        at = _digits_end(at + 1, last)
    return at + 2 if at[0] == c"Z" and at[1] == c'"' else NULL


include "compiled_cells.pxi"
