/* Reading JSON; what returns 0 wants a closer look. A piece of _usual.c. */

typedef struct {
    const uint8_t *p, *end;
    buffer scratch;   /* texts without their escapes; as long as the body, so that it never moves */
    int is_compact;   /* nothing since it was set had blanks or escapes */
    int names;        /* of properties of an event */
} reader;

typedef enum { NULL_VALUE, TRUE_VALUE, FALSE_VALUE, WHOLE, FRACTION, TEXT, NESTED } kind;

typedef struct {
    kind kind;
    int is_compact;
    text raw;     /* as it was sent */
    text content; /* of a text */
} value;

typedef struct {
    text name, raw_name;
    value value;
    int is_kept_elsewhere; /* in its series, or as the value */
} entry;

static void skip_blanks(reader *r)
{
    const uint8_t *p = r->p;
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
    if (p != r->p)
        r->is_compact = 0;
}

/* The next byte that is no blank, which is taken if it is this one. */
static int take(reader *r, uint8_t byte)
{
    skip_blanks(r);
    if (r->p >= r->end || *r->p != byte)
        return 0;
    r->p++;
    return 1;
}

static inline int is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* How many bytes the character has that begins here; 0 if it is none. */
static int character_length(const uint8_t *p, const uint8_t *end)
{
    uint8_t a = p[0];
    if (a < 0x80)
        return 1;
    if (end - p < 2 || !is_continuation(p[1]))
        return 0;
    if (a >= 0xC2 && a <= 0xDF)
        return 2;
    if (end - p < 3 || !is_continuation(p[2]))
        return 0;
    if (a == 0xE0)
        return p[1] >= 0xA0 ? 3 : 0;
    if (a == 0xED)
        return p[1] <= 0x9F ? 3 : 0;
    if (a >= 0xE1 && a <= 0xEF)
        return 3;
    if (end - p < 4 || !is_continuation(p[3]))
        return 0;
    if (a == 0xF0)
        return p[1] >= 0x90 ? 4 : 0;
    if (a == 0xF4)
        return p[1] <= 0x8F ? 4 : 0;
    return a >= 0xF1 && a <= 0xF3 ? 4 : 0;
}

/* The value of a hexadecimal digit, -1 of another byte. */
static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int hex_digits(const uint8_t *p, const uint8_t *end, uint32_t *number)
{
    if (end - p < 4)
        return 0;
    *number = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0)
            return 0;
        *number = *number << 4 | (uint32_t)digit;
    }
    return 1;
}

static void put_character(buffer *b, uint32_t c)
{
    if (c < 0x80) {
        put_byte(b, (uint8_t)c);
    } else if (c < 0x800) {
        put_byte(b, (uint8_t)(0xC0 | c >> 6));
        put_byte(b, (uint8_t)(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
        put_byte(b, (uint8_t)(0xE0 | c >> 12));
        put_byte(b, (uint8_t)(0x80 | (c >> 6 & 0x3F)));
        put_byte(b, (uint8_t)(0x80 | (c & 0x3F)));
    } else {
        put_byte(b, (uint8_t)(0xF0 | c >> 18));
        put_byte(b, (uint8_t)(0x80 | (c >> 12 & 0x3F)));
        put_byte(b, (uint8_t)(0x80 | (c >> 6 & 0x3F)));
        put_byte(b, (uint8_t)(0x80 | (c & 0x3F)));
    }
}

/* After a backslash: what it stands for. No NUL, and no half of a pair. */
static int read_escape(reader *r)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (r->p >= r->end)
        return 0;
    uint8_t c = *r->p++;
    const char *at = c ? strchr(letters, c) : NULL;
    if (at) {
        put_byte(&r->scratch, (uint8_t)meant[at - letters]);
        return 1;
    }
    uint32_t number, second;
    if (c != 'u' || !hex_digits(r->p, r->end, &number))
        return 0;
    r->p += 4;
    if (number == 0 || (number >= 0xDC00 && number <= 0xDFFF))
        return 0;
    if (number >= 0xD800 && number <= 0xDBFF) {
        if (r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u' || !hex_digits(r->p + 2, r->end, &second) ||
            second < 0xDC00 || second > 0xDFFF)
            return 0;
        r->p += 6;
        number = 0x10000 + ((number - 0xD800) << 10) + (second - 0xDC00);
    }
    put_character(&r->scratch, number);
    return 1;
}

/* The rest of a text that has escapes; it is as long as its JSON at most, so that the scratch has room. */
static int read_escaped_text(reader *r, text *t)
{
    size_t begins = r->scratch.n;
    put(&r->scratch, t->p, (size_t)(r->p - t->p));
    while (r->p < r->end && *r->p != '"') {
        uint8_t c = *r->p;
        if (c < 0x20)
            return 0;
        if (c == '\\') {
            r->p++;
            if (!read_escape(r))
                return 0;
        } else {
            int n = character_length(r->p, r->end);
            if (!n)
                return 0;
            put(&r->scratch, r->p, (size_t)n);
            r->p += n;
        }
        t->chars++;
    }
    if (r->p >= r->end)
        return 0;
    r->p++;
    t->p = r->scratch.p + begins;
    t->n = (uint32_t)(r->scratch.n - begins);
    t->is_escaped = 1;
    r->is_compact = 0;
    return 1;
}

static int has_scratch(reader *r) { return reserve(&r->scratch, (size_t)(r->end - r->p) * 2 + 64); }

static int read_text(reader *r, text *t)
{
    if (r->p >= r->end || *r->p != '"')
        return 0;
    t->p = ++r->p;
    t->chars = 0;
    t->is_escaped = 0;
    while (r->p < r->end && *r->p != '"') {
        uint8_t c = *r->p;
        if (c == '\\')
            return r->scratch.p ? read_escaped_text(r, t) : 0;
        if (c < 0x20)
            return 0;
        int n = c < 0x80 ? 1 : character_length(r->p, r->end);
        if (!n)
            return 0;
        r->p += n;
        t->chars++;
    }
    if (r->p >= r->end)
        return 0;
    t->n = (uint32_t)(r->p - t->p);
    r->p++;
    return 1;
}

static inline int is_digit(const reader *r) { return r->p < r->end && *r->p >= '0' && *r->p <= '9'; }

/* A number in plain notation that Python's int and Decimal give back as it was. */
static int read_number(reader *r, value *v)
{
    int is_negative = *r->p == '-', is_zero = 1;
    if (is_negative)
        r->p++;
    const uint8_t *whole = r->p;
    for (; is_digit(r); r->p++)
        is_zero &= *r->p == '0';
    ptrdiff_t whole_n = r->p - whole;
    if (whole_n == 0 || whole_n > DIGITS_MAX || (*whole == '0' && whole_n > 1))
        return 0;
    v->kind = WHOLE;
    if (r->p < r->end && *r->p == '.') {
        const uint8_t *fraction = ++r->p;
        for (; is_digit(r); r->p++)
            is_zero &= *r->p == '0';
        ptrdiff_t n = r->p - fraction;
        if (n == 0 || n > DIGITS_MAX)
            return 0;
        if (*whole == '0' && n > 6 && !memcmp(fraction, "000000", 6))
            return 0; /* Decimal would write it with an exponent */
        v->kind = FRACTION;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E'))
        return 0;
    return !(is_negative && is_zero);
}

static int take_word(reader *r, const char *word, size_t n)
{
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n))
        return 0;
    r->p += n;
    return 1;
}

static int read_nested(reader *r, int depth);

static int read_value(reader *r, value *v, int depth)
{
    skip_blanks(r);
    if (r->p >= r->end)
        return 0;
    int was_compact = r->is_compact, is_read;
    r->is_compact = 1;
    v->raw.p = r->p;
    switch (*r->p) {
    case '"':
        v->kind = TEXT;
        is_read = read_text(r, &v->content);
        break;
    case '{':
    case '[':
        v->kind = NESTED;
        is_read = read_nested(r, depth + 1);
        break;
    case 'n':
        v->kind = NULL_VALUE;
        is_read = take_word(r, "null", 4);
        break;
    case 't':
        v->kind = TRUE_VALUE;
        is_read = take_word(r, "true", 4);
        break;
    case 'f':
        v->kind = FALSE_VALUE;
        is_read = take_word(r, "false", 5);
        break;
    default:
        is_read = read_number(r, v);
    }
    v->raw.n = (uint32_t)(r->p - v->raw.p);
    v->is_compact = r->is_compact;
    r->is_compact &= was_compact;
    return is_read;
}

/* Goes on after a member: 1 another one, 0 the end, -1 neither. */
static int next(reader *r, uint8_t end)
{
    skip_blanks(r);
    if (r->p >= r->end)
        return -1;
    uint8_t c = *r->p++;
    return c == ',' ? 1 : c == end ? 0 : -1;
}

static int read_name(reader *r, text *name)
{
    skip_blanks(r);
    return read_text(r, name) && take(r, ':');
}

static int is_new_name(const text *names, int n)
{
    for (int i = 0; i < n; i++)
        if (same(&names[i], &names[n]))
            return 0;
    return 1;
}

static int read_nested(reader *r, int depth)
{
    text names[NESTED_NAMES_MAX];
    value ignored;
    int is_object = *r->p++ == '{', goes_on = 1;
    uint8_t end = is_object ? '}' : ']';
    if (depth > DEPTH_MAX)
        return 0;
    if (take(r, end))
        return 1;
    for (int n = 0; goes_on == 1; n++) {
        if (is_object) {
            if (n == NESTED_NAMES_MAX || ++r->names > NAMES_MAX || !read_name(r, &names[n]) ||
                names[n].chars > NAME_MAX_CHARS || !is_new_name(names, n))
                return 0;
        }
        if (!read_value(r, &ignored, depth))
            return 0;
        goes_on = next(r, end);
    }
    return goes_on == 0;
}
