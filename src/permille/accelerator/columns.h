/* What is made of it. A piece of _usual.c. */

typedef struct {
    buffer series_ids, ats, identities, amounts, transaction_ids, precise, extras, answer, document;
    int has_amounts, has_precise, has_extras, is_answered;
} columns;

static int put_json_text(buffer *b, const text *t)
{
    static const char hex[] = "0123456789abcdef";
    if (!reserve(b, (t->is_escaped ? 6 * (size_t)t->n : t->n) + 2))
        return 0;
    put_byte(b, '"');
    if (!t->is_escaped)
        put(b, t->p, t->n);
    for (uint32_t i = 0; t->is_escaped && i < t->n; i++) {
        uint8_t c = t->p[i];
        const char *at = c ? strchr("\"\\\b\f\n\r\t", c) : NULL;
        if (at) {
            put_byte(b, '\\');
            put_byte(b, (uint8_t)"\"\\bfnrt"[at - strchr("\"\\\b\f\n\r\t", '"')]);
        } else if (c < 0x20) {
            PUT(b, "\\u00");
            put_byte(b, (uint8_t)hex[c >> 4]);
            put_byte(b, (uint8_t)hex[c & 15]);
        } else
            put_byte(b, c);
    }
    put_byte(b, '"');
    return 1;
}

/* JSON that was read, without blanks and with no more escapes than it needs. */
static int put_compact(buffer *b, const text *raw, int is_compact, buffer *scratch)
{
    if (!reserve(b, raw->n))
        return 0;
    if (is_compact) {
        put(b, raw->p, raw->n);
        return 1;
    }
    reader r = {.p = raw->p, .end = raw->p + raw->n, .scratch = *scratch};
    while (r.p < r.end) {
        if (*r.p == '"') {
            text t;
            r.scratch.n = scratch->n;
            if (!read_text(&r, &t) || !put_json_text(b, &t))
                return 0;
        } else if (*r.p == ' ' || *r.p == '\n' || *r.p == '\t' || *r.p == '\r') {
            r.p++;
        } else {
            if (!reserve(b, 1))
                return 0;
            put_byte(b, *r.p++);
        }
    }
    return 1;
}

/* An element of a literal of texts. */
static int put_array_text(buffer *b, const uint8_t *p, size_t n)
{
    if (!reserve(b, 2 * n + 3))
        return 0;
    if (b->n)
        put_byte(b, ',');
    put_byte(b, '"');
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"' || p[i] == '\\')
            put_byte(b, '\\');
        put_byte(b, p[i]);
    }
    put_byte(b, '"');
    return 1;
}

/* An element of a literal that needs no quotes; NULL without a text. */
static int put_array_number(buffer *b, const text *t, int has_text)
{
    size_t n = has_text ? t->n : 4;
    if (!reserve(b, n + 1))
        return 0;
    if (b->n)
        put_byte(b, ',');
    put(b, has_text ? (const char *)t->p : "NULL", n);
    return 1;
}

static void put_two(uint8_t *p, int number)
{
    p[0] = (uint8_t)('0' + number / 10 % 10);
    p[1] = (uint8_t)('0' + number % 10);
}

/* YYYY-MM-DDTHH:MM:SS of an instant from 1970 on. */
static void write_date_and_time(uint8_t *p, int64_t seconds)
{
    int64_t days = seconds / 86400, rest = seconds % 86400, z = days + 719468, era = z / 146097, of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    int d = (int)(of_year - (153 * month + 2) / 5 + 1), m = (int)(month < 10 ? month + 3 : month - 9);
    int y = (int)(year + era * 400 + (m <= 2));
    put_two(p, y / 100);
    put_two(p + 2, y % 100);
    p[4] = p[7] = '-';
    put_two(p + 5, m);
    put_two(p + 8, d);
    p[10] = 'T';
    put_two(p + 11, (int)(rest / 3600));
    p[13] = p[16] = ':';
    put_two(p + 14, (int)(rest / 60 % 60));
    put_two(p + 17, (int)(rest % 60));
}

static void put_hex(buffer *b, const uint8_t *p, int n)
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < n; i++) {
        put_byte(b, (uint8_t)hex[p[i] >> 4]);
        put_byte(b, (uint8_t)hex[p[i] & 15]);
    }
}

static void put_uuid(buffer *b, const uint8_t *p)
{
    put_hex(b, p, 4);
    for (int i = 4; i < 10; i += 2) {
        put_byte(b, '-');
        put_hex(b, p + i, 2);
    }
    put_byte(b, '-');
    put_hex(b, p + 10, 6);
}

/* Lago's form of a decimal: with a fraction, and without idle zeros. */
static int put_decimal(buffer *b, const text *t)
{
    const uint8_t *point = memchr(t->p, '.', t->n);
    uint32_t n = t->n;
    if (!reserve(b, n + 4))
        return 0;
    put_byte(b, '"');
    while (point && t->p[n - 1] == '0')
        n--;
    put(b, t->p, n);
    if (!point)
        PUT(b, ".0");
    else if (t->p[n - 1] == '.')
        put_byte(b, '0');
    put_byte(b, '"');
    return 1;
}

static int put_answer(columns *c, const event *e, const uint8_t *identity, const uint8_t *created, buffer *scratch)
{
    buffer *b = &c->answer;
    static const text none = {(const uint8_t *)"{}", 2, 2, 0};
    if (!reserve(b, 80))
        return 0;
    PUT(b, "{\"lago_id\":\"");
    put_uuid(b, identity);
    PUT(b, "\",\"transaction_id\":");
    if (!put_json_text(b, &e->transaction_id) || !reserve(b, 16))
        return 0;
    PUT(b, ",\"code\":");
    if (!put_json_text(b, &e->code) || !reserve(b, 100))
        return 0;
    PUT(b, ",\"timestamp\":\"");
    write_date_and_time(b->p + b->n, e->at / MICRO);
    b->n += 19;
    int milli = (int)(e->at % MICRO / 1000);
    put_byte(b, '.');
    put_byte(b, (uint8_t)('0' + milli / 100));
    put_two(b->p + b->n, milli % 100);
    b->n += 2;
    PUT(b, "Z\",\"precise_total_amount_cents\":");
    if (!e->has_precise)
        PUT(b, "null");
    else if (!put_decimal(b, &e->precise))
        return 0;
    if (!reserve(b, 16))
        return 0;
    PUT(b, ",\"properties\":");
    const text *properties = e->has_properties ? &e->properties : &none;
    if (!put_compact(b, properties, !e->has_properties || e->is_compact, scratch) || !reserve(b, 40))
        return 0;
    PUT(b, ",\"external_subscription_id\":");
    if (!e->has_subscription)
        PUT(b, "null");
    else if (!put_json_text(b, &e->subscription))
        return 0;
    if (!reserve(b, 110))
        return 0;
    PUT(b, ",\"created_at\":\"");
    put(b, created, 19);
    PUT(b, "Z\",\"lago_customer_id\":null,\"lago_subscription_id\":null}");
    return 1;
}

static entry *entry_of(event *e, const text *name)
{
    for (int i = 0; i < e->entries_n; i++)
        if (same(&e->entries[i].name, name))
            return &e->entries[i];
    return NULL;
}

static int add_dimension(series_key *key, entry *found)
{
    if (!found)
        return add_to_key(key, NONE_TAG, NULL, 0);
    const value *v = &found->value;
    found->is_kept_elsewhere = 1;
    switch (v->kind) {
    case TEXT:
        return add_to_key(key, TEXT_TAG, v->content.p, v->content.n);
    case WHOLE:
        return add_to_key(key, WHOLE_TAG, v->raw.p, v->raw.n);
    case FRACTION:
        return add_to_key(key, DECIMAL_TAG, v->raw.p, v->raw.n);
    case TRUE_VALUE:
        return add_to_key(key, BOOLEAN_TAG, (const uint8_t *)"True", 4);
    case FALSE_VALUE:
        return add_to_key(key, BOOLEAN_TAG, (const uint8_t *)"False", 5);
    default:
        found->is_kept_elsewhere = 0;
        return add_to_key(key, NONE_TAG, NULL, 0);
    }
}

/* The number that the metric takes, as it was sent, and whether that was as a text. */
static int take_amount(const Layout *layout, event *e, text *amount, int *is_text)
{
    *is_text = 0;
    entry *found = layout->has_field ? entry_of(e, &layout->field) : NULL;
    if (!found)
        return 0;
    const value *v = &found->value;
    int is_number = v->kind == WHOLE || v->kind == FRACTION, is_reproduced = is_number;
    *amount = v->raw;
    if (v->kind == TEXT) {
        *is_text = is_reproduced = is_canonical(&v->content, &is_number);
        *amount = v->content;
    }
    found->is_kept_elsewhere |= is_reproduced && !layout->field_is_key;
    return is_number;
}

static int put_extra(columns *c, const event *e, buffer *scratch)
{
    buffer *document = &c->document;
    document->n = 0;
    for (int i = 0; i < e->entries_n; i++) {
        const entry *found = &e->entries[i];
        if (found->is_kept_elsewhere)
            continue;
        if (!reserve(document, 2))
            return 0;
        put_byte(document, document->n ? ',' : '{');
        if (!put_json_text(document, &found->name) || !reserve(document, 1))
            return 0;
        put_byte(document, ':');
        if (!put_compact(document, &found->value.raw, found->value.is_compact, scratch))
            return 0;
    }
    if (!document->n)
        return put_array_number(&c->extras, NULL, 0);
    if (!reserve(document, 1))
        return 0;
    put_byte(document, '}');
    c->has_extras = 1;
    return put_array_text(&c->extras, document->p, document->n);
}

static int add_event(columns *c, event *e, const Layout *layout, identifier *by, const uint8_t *created, buffer *scratch)
{
    series_key key;
    text amount;
    int64_t id;
    int is_text;
    uint8_t subscription[8], identity[16];
    if (!begin_key(&key, layout) ||
        !add_to_key(&key, e->has_subscription ? TEXT_TAG : NONE_TAG, e->subscription.p, e->has_subscription ? e->subscription.n : 0))
        return 0;
    for (int i = 0; i < layout->keys_n; i++)
        if (!add_dimension(&key, entry_of(e, &layout->keys[i])))
            return 0;
    int has_amount = take_amount(layout, e, &amount, &is_text);
    if (!add_to_key(&key, is_text, NULL, 0) || !recall(layout->table, key.p, key.n, &id, subscription) ||
        !make_identity(by, e, subscription, identity))
        return 0;
    if (!reserve(&c->series_ids, 12) || !reserve(&c->ats, 12) || !reserve(&c->identities, 20))
        return 0;
    put_big_endian(&c->series_ids, 8, 4);
    put_big_endian(&c->series_ids, (uint64_t)id, 8);
    put_big_endian(&c->ats, 8, 4);
    put_big_endian(&c->ats, (uint64_t)(e->at - SECONDS_TO_2000 * MICRO), 8);
    put_big_endian(&c->identities, 16, 4);
    put(&c->identities, identity, 16);
    c->has_amounts |= has_amount;
    c->has_precise |= e->has_precise;
    return put_array_number(&c->amounts, &amount, has_amount) &&
           put_array_text(&c->transaction_ids, e->transaction_id.p, e->transaction_id.n) &&
           put_array_number(&c->precise, &e->precise, e->has_precise) && put_extra(c, e, scratch) &&
           (!c->is_answered || put_answer(c, e, identity, created, scratch));
}
