/* An event. A piece of _usual.c. */

typedef struct {
    text transaction_id, code, subscription;
    int has_subscription, has_properties;
    int64_t at; /* microseconds since 1970 */
    text precise;
    int has_precise;
    text properties; /* as they were sent, if they are compact */
    int is_compact, entries_n;
    entry entries[ENTRIES_MAX];
} event;

static int is_space(uint32_t c)
{
    return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static int is_blank(const text *t)
{
    for (const uint8_t *p = t->p, *end = t->p + t->n; p < end;) {
        int n = character_length(p, end);
        uint32_t c = n == 1 ? p[0] : n == 2 ? (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F)
                     : n == 3 ? (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F) : 0x10000;
        if (!is_space(c))
            return 0;
        p += n;
    }
    return 1;
}

/* A text, or a whole number, which counts as its digits. */
static int as_text(const value *v, text *t)
{
    if (v->kind == TEXT)
        *t = v->content;
    else if (v->kind == WHOLE) {
        *t = v->raw;
        t->chars = v->raw.n;
        t->is_escaped = 0;
    } else
        return 0;
    return t->chars <= NAME_MAX_CHARS;
}

static int as_name(const value *v, text *t) { return as_text(v, t) && t->n > 0 && !is_blank(t); }

static int as_subscription(const value *v, event *e)
{
    if (v->kind == NULL_VALUE)
        return 1;
    if (!as_text(v, &e->subscription))
        return 0;
    e->has_subscription = e->subscription.n > 0;
    return 1;
}

static int digits(const uint8_t *p, int n, int *number)
{
    *number = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        *number = *number * 10 + (p[i] - '0');
    }
    return 1;
}

/* Digits of a fraction of a second, of which what is finer than a microsecond is cut off; how many, 0 if none. */
static int fraction(const uint8_t *p, const uint8_t *end, int64_t *micro)
{
    int n = 0;
    *micro = 0;
    for (; p + n < end && p[n] >= '0' && p[n] <= '9'; n++)
        if (n < 6)
            *micro = *micro * 10 + (p[n] - '0');
    for (int i = n; i < 6; i++)
        *micro *= 10;
    return n > 60 ? 0 : n;
}

static int as_seconds(const uint8_t *p, const uint8_t *end, int64_t *at)
{
    int64_t seconds = 0, micro = 0;
    const uint8_t *begins = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - begins < 12; p++)
        seconds = seconds * 10 + (*p - '0');
    if (p == begins)
        return 0;
    if (p < end && *p == '.') {
        int n = fraction(p + 1, end, &micro);
        if (!n)
            return 0;
        p += 1 + n;
    }
    *at = seconds * MICRO + micro;
    return p == end && seconds < SECONDS_END;
}

static int64_t days_since_1970(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = y / 400, of_era = y - era * 400, of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int days_of(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) ? 29 : days[m - 1];
}

static int as_offset(const uint8_t *p, const uint8_t *end, int *minutes)
{
    int hour, minute;
    *minutes = 0;
    if (p == end || (end - p == 1 && (*p == 'Z' || *p == 'z')))
        return 1;
    if (end - p != 6 || (*p != '+' && *p != '-') || p[3] != ':' || !digits(p + 1, 2, &hour) ||
        !digits(p + 4, 2, &minute) || hour > 23 || minute > 59)
        return 0;
    *minutes = (hour * 60 + minute) * (*p == '-' ? -1 : 1);
    return 1;
}

static int as_date_and_time(const uint8_t *p, const uint8_t *end, int64_t *at)
{
    int y, m, d, hour, minute, second, offset;
    int64_t micro = 0;
    if (end - p < 19 || p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != ' ') || p[13] != ':' || p[16] != ':')
        return 0;
    if (!digits(p, 4, &y) || !digits(p + 5, 2, &m) || !digits(p + 8, 2, &d) || !digits(p + 11, 2, &hour) ||
        !digits(p + 14, 2, &minute) || !digits(p + 17, 2, &second))
        return 0;
    if (y < 1970 || m < 1 || m > 12 || d < 1 || d > days_of(y, m) || hour > 23 || minute > 59 || second > 59)
        return 0;
    p += 19;
    if (p < end && *p == '.') {
        int n = fraction(p + 1, end, &micro);
        if (!n)
            return 0;
        p += 1 + n;
    }
    if (!as_offset(p, end, &offset))
        return 0;
    int64_t seconds = days_since_1970(y, m, d) * 86400 + hour * 3600 + minute * 60 + second - offset * 60LL;
    *at = seconds * MICRO + micro;
    return seconds >= 0 && seconds < SECONDS_END;
}

static int as_instant(const value *v, int64_t *at)
{
    if (v->kind == NULL_VALUE)
        return 1;
    if (v->kind == WHOLE || v->kind == FRACTION)
        return as_seconds(v->raw.p, v->raw.p + v->raw.n, at);
    if (v->kind != TEXT)
        return 0;
    const uint8_t *p = v->content.p, *end = p + v->content.n;
    return as_seconds(p, end, at) || as_date_and_time(p, end, at);
}

/* Whether a text is a number that PostgreSQL's numeric gives back as it was; *is_number: whether it is one at all. */
static int is_canonical(const text *t, int *is_number)
{
    reader r = {.p = t->p, .end = t->p + t->n};
    int is_zero = 1, whole_n = 0, fraction_n = 0, is_negative = t->n > 0 && *t->p == '-';
    *is_number = 0;
    if (is_negative)
        r.p++;
    const uint8_t *whole = r.p;
    for (; is_digit(&r); r.p++, whole_n++)
        is_zero &= *r.p == '0';
    if (r.p < r.end && *r.p == '.') {
        r.p++;
        for (; is_digit(&r); r.p++, fraction_n++)
            is_zero &= *r.p == '0';
        if (!fraction_n)
            return 0;
    }
    if (!whole_n || r.p != r.end || whole_n > DIGITS_MAX || fraction_n > DIGITS_MAX)
        return 0;
    *is_number = 1;
    return !(*whole == '0' && whole_n > 1) && !(is_negative && is_zero);
}

static int as_precise(const value *v, event *e)
{
    int is_number;
    if (v->kind == NULL_VALUE)
        return 1;
    e->has_precise = 1;
    e->precise = v->kind == TEXT ? v->content : v->raw;
    return v->kind == WHOLE || v->kind == FRACTION || (v->kind == TEXT && is_canonical(&v->content, &is_number));
}

static int is_new_entry(const event *e)
{
    const text *name = &e->entries[e->entries_n].name;
    for (int i = 0; i < e->entries_n; i++)
        if (same(&e->entries[i].name, name))
            return 0;
    return 1;
}

static int read_properties(reader *r, event *e)
{
    skip_blanks(r);
    if (r->end - r->p >= 4 && !memcmp(r->p, "null", 4)) {
        r->p += 4;
        return 1;
    }
    int goes_on = 1;
    r->is_compact = 1;
    e->properties.p = r->p;
    if (!take(r, '{'))
        return 0;
    if (take(r, '}'))
        goes_on = 0;
    for (; goes_on == 1; e->entries_n++) {
        if (e->entries_n == ENTRIES_MAX || ++r->names > NAMES_MAX)
            return 0;
        entry *found = &e->entries[e->entries_n];
        found->is_kept_elsewhere = 0;
        skip_blanks(r);
        found->raw_name.p = r->p;
        if (!read_text(r, &found->name) || found->name.n == 0 || found->name.chars > NAME_MAX_CHARS || !is_new_entry(e))
            return 0;
        found->raw_name.n = (uint32_t)(r->p - found->raw_name.p);
        if (!take(r, ':') || !read_value(r, &found->value, 0))
            return 0;
        goes_on = next(r, '}');
    }
    e->properties.n = (uint32_t)(r->p - e->properties.p);
    e->is_compact = r->is_compact;
    e->has_properties = 1;
    return goes_on == 0 && e->properties.n <= PROPERTIES_BYTES_MAX;
}

static int is_named(const text *t, const char *name) { return t->n == strlen(name) && !memcmp(t->p, name, t->n); }

enum { TRANSACTION_ID = 1, CODE = 2, SUBSCRIPTION = 4, TIMESTAMP = 8, PRECISE = 16, PROPERTIES = 32 };

static int field_of(const text *name)
{
    switch (name->n) {
    case 4:
        return is_named(name, "code") ? CODE : 0;
    case 9:
        return is_named(name, "timestamp") ? TIMESTAMP : 0;
    case 10:
        return is_named(name, "properties") ? PROPERTIES : 0;
    case 14:
        return is_named(name, "transaction_id") ? TRANSACTION_ID : 0;
    case 24:
        return is_named(name, "external_subscription_id") ? SUBSCRIPTION : 0;
    case 26:
        return is_named(name, "precise_total_amount_cents") ? PRECISE : 0;
    default:
        return 0;
    }
}

static int read_field(reader *r, event *e, int field)
{
    value v;
    if (field == PROPERTIES)
        return read_properties(r, e);
    if (!read_value(r, &v, 0))
        return 0;
    switch (field) {
    case TRANSACTION_ID:
        return as_name(&v, &e->transaction_id);
    case CODE:
        return as_name(&v, &e->code);
    case SUBSCRIPTION:
        return as_subscription(&v, e);
    case TIMESTAMP:
        return as_instant(&v, &e->at);
    case PRECISE:
        return as_precise(&v, e);
    default:
        return 1; /* other fields are dropped */
    }
}

static int read_event(reader *r, event *e, int64_t created_at)
{
    int seen = 0, goes_on = 1;
    e->has_subscription = e->has_precise = e->has_properties = e->entries_n = 0;
    e->at = created_at;
    r->names = 0;
    if (!take(r, '{'))
        return 0;
    while (goes_on == 1) {
        text name;
        if (!read_name(r, &name))
            return 0;
        int field = field_of(&name);
        if (seen & field || !read_field(r, e, field))
            return 0;
        seen |= field;
        goes_on = next(r, '}');
    }
    return goes_on == 0 && (seen & (TRANSACTION_ID | CODE)) == (TRANSACTION_ID | CODE);
}
