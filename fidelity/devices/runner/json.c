/* The reader behind json.h: recursive descent, whose depth is limited before it is used. */

#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { DEEPEST = 16, MOST_MEMBERS = 4096 }; /* a job needs a depth of 7 */

struct reader {
    const char *start, *at, *end; /* *end is NUL, so that one character ahead can always be read */
    struct failure *failure;
};

static bool wrong(struct reader *reader, const char *what)
{
    return fail(reader->failure, BAD_JOB, "job.json: not JSON at byte %zu: %s", (size_t)(reader->at - reader->start),
                what);
}

static void skip_space(struct reader *reader)
{
    while (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r')
        reader->at++;
}

/* Four hexadecimal digits behind \u. */
static bool read_unit(struct reader *reader, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *found = *reader->at ? strchr(digits, *reader->at) : NULL;
        if (found == NULL)
            return wrong(reader, "\\u needs four hexadecimal digits");
        *unit = *unit << 4 | (uint32_t)((found - digits) % 16);
    }
    return true;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* What follows a backslash; never longer than what it was written with. */
static bool read_escape(struct reader *reader, char **to)
{
    const char *plain = "\"\\/bfnrt", *means = "\"\\/\b\f\n\r\t";
    const char *found = *reader->at ? strchr(plain, *reader->at) : NULL;
    if (found) {
        *(*to)++ = means[found - plain];
        reader->at++;
        return true;
    }
    if (*reader->at != 'u')
        return wrong(reader, "an escape that there is not");
    reader->at++;
    uint32_t code, low;
    if (!read_unit(reader, &code))
        return false;
    if (code >= 0xd800 && code <= 0xdbff && reader->at[0] == '\\' && reader->at[1] == 'u') {
        reader->at += 2;
        if (!read_unit(reader, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return wrong(reader, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code == 0 || (code >= 0xd800 && code <= 0xdfff))
        return wrong(reader, code ? "half a surrogate pair" : "NUL in a text");
    *to = put_utf8(*to, code);
    return true;
}

static const char *read_text(struct reader *reader)
{
    if (*reader->at != '"') {
        wrong(reader, "a text expected");
        return NULL;
    }
    const char *close = reader->at + 1;
    while (*close && *close != '"') /* enough room; a skipped NUL would be behind the end */
        close += *close == '\\' && close[1] ? 2 : 1;
    char *text = need((size_t)(close - reader->at) + 1, 1), *to = text;
    reader->at++;
    while (*reader->at != '"') {
        size_t length = utf8_length(reader->at);
        bool good = true;
        if (length == 0 || (length == 1 && (unsigned char)*reader->at < 0x20))
            good = wrong(reader, "a text that does not end, is not UTF-8 or holds a control character");
        else if (*reader->at == '\\')
            reader->at++, good = read_escape(reader, &to);
        else
            for (; length; length--)
                *to++ = *reader->at++;
        if (!good) {
            free(text);
            return NULL;
        }
    }
    reader->at++;
    return text;
}

static bool skip_digits(struct reader *reader)
{
    if (*reader->at < '0' || *reader->at > '9')
        return wrong(reader, "a digit expected");
    while (*reader->at >= '0' && *reader->at <= '9')
        reader->at++;
    return true;
}

static bool read_number(struct reader *reader, struct json *value)
{
    const char *from = reader->at;
    value->kind = JSON_NUMBER;
    value->whole = true;
    reader->at += *reader->at == '-';
    if (*reader->at == '0')
        reader->at++;
    else if (!skip_digits(reader))
        return false;
    if (*reader->at == '.') {
        value->whole = false;
        reader->at++;
        if (!skip_digits(reader))
            return false;
    }
    if (*reader->at == 'e' || *reader->at == 'E') {
        value->whole = false;
        reader->at++;
        reader->at += *reader->at == '+' || *reader->at == '-';
        if (!skip_digits(reader))
            return false;
    }
    value->number = strtod(from, NULL); /* the locale is C: nothing here sets another */
    if (!isfinite(value->number))
        return wrong(reader, "a number past the largest double");
    errno = 0;
    value->integer = value->whole ? strtoll(from, NULL, 10) : 0;
    value->too_large = value->integer > 999999999999999999 || value->integer < -999999999999999999;
    value->whole = value->whole && errno == 0;
    return true;
}

static bool read_value(struct reader *reader, struct json *value, int depth);

/* The members of a list or an object, whose first bracket was read. */
static bool read_members(struct reader *reader, struct json *value, int depth)
{
    bool object = value->kind == JSON_OBJECT;
    char close = object ? '}' : ']';
    struct json **end = &value->first;
    skip_space(reader);
    if (*reader->at == close)
        return reader->at++, true;
    for (;;) {
        struct json *member = need(1, sizeof *member);
        *end = member, end = &member->next;
        skip_space(reader);
        if (object) {
            const char *key = read_text(reader);
            if (key == NULL)
                return false;
            if (value->count >= MOST_MEMBERS || json_member(value, key))
                return wrong(reader, value->count >= MOST_MEMBERS ? "too many members" : "a key given twice");
            member->key = key;
            skip_space(reader);
            if (*reader->at++ != ':')
                return reader->at--, wrong(reader, "':' expected");
        }
        if (!read_value(reader, member, depth))
            return false;
        value->count++;
        skip_space(reader);
        char next = *reader->at;
        if (next != close && next != ',')
            return wrong(reader, object ? "',' or '}' expected" : "',' or ']' expected");
        reader->at++;
        if (next == close)
            return true;
    }
}

static bool read_value(struct reader *reader, struct json *value, int depth)
{
    static const struct {
        const char *word;
        enum json_kind kind;
    } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    if (depth > DEEPEST)
        return wrong(reader, "nested too deeply");
    skip_space(reader);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i].word);
        if (strncmp(reader->at, words[i].word, length) == 0) {
            value->kind = words[i].kind;
            reader->at += length;
            return true;
        }
    }
    if (*reader->at == '"') {
        value->kind = JSON_TEXT;
        value->text = read_text(reader);
        return value->text != NULL;
    }
    if (*reader->at == '{' || *reader->at == '[') {
        value->kind = *reader->at++ == '{' ? JSON_OBJECT : JSON_LIST;
        return read_members(reader, value, depth + 1);
    }
    if (*reader->at == '-' || (*reader->at >= '0' && *reader->at <= '9'))
        return read_number(reader, value);
    return wrong(reader, "a value expected");
}

struct json *json_read(const char *content, size_t size, struct failure *failure)
{
    struct reader reader = {content, content, content + size, failure};
    struct json *document = need(1, sizeof *document);
    if (!read_value(&reader, document, 0))
        return NULL;
    skip_space(&reader);
    if (reader.at != reader.end) {
        wrong(&reader, "something behind the document");
        return NULL;
    }
    return document;
}

const struct json *json_member(const struct json *object, const char *key)
{
    for (const struct json *member = object->first; member; member = member->next)
        if (member->key && strcmp(member->key, key) == 0)
            return member;
    return NULL;
}
