/* The writer behind json_write.h. */

#include "json_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

static void put(struct json_text *json, const char *bytes, size_t count)
{
    if (json->length + count + 1 > json->room) {
        size_t room = 2 * (json->length + count) + 4096;
        char *more = need(room, 1);
        if (json->length)
            memcpy(more, json->text, json->length);
        free(json->text);
        json->text = more;
        json->room = room;
    }
    memcpy(json->text + json->length, bytes, count);
    json->length += count;
    json->text[json->length] = 0;
}

static void put_quoted(struct json_text *json, const char *text)
{
    put(json, "\"", 1);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        char escape[8];
        if (byte == '"' || byte == '\\')
            put(json, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", byte));
        else if (byte < 0x20)
            put(json, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", byte));
        else
            put(json, text, 1);
    }
    put(json, "\"", 1);
}

static void begin(struct json_text *json, const char *key)
{
    if (json->comma)
        put(json, ",", 1);
    if (json->length)
        put(json, "\n", 1);
    if (key) {
        put_quoted(json, key);
        put(json, ": ", 2);
    }
    json->comma = true;
}

void write_word(struct json_text *json, const char *key, const char *word)
{
    begin(json, key);
    put(json, word, strlen(word));
}

void write_text(struct json_text *json, const char *key, const char *text)
{
    if (text == NULL) {
        write_word(json, key, "null");
        return;
    }
    begin(json, key);
    put_quoted(json, text);
}

void write_number(struct json_text *json, const char *key, double number)
{
    char digits[40]; /* 17 digits give the very double back; JSON has no NaN, and no figure here is one */
    snprintf(digits, sizeof digits, "%.17g", isfinite(number) ? number : 0.0);
    write_word(json, key, digits);
}

void write_integer(struct json_text *json, const char *key, int64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)number);
    write_word(json, key, digits);
}

void open_bracket(struct json_text *json, const char *key, char bracket)
{
    begin(json, key);
    put(json, &bracket, 1);
    json->comma = false;
}

void close_bracket(struct json_text *json, char bracket)
{
    put(json, &bracket, 1);
    json->comma = true;
}

void write_numbers(struct json_text *json, const char *key, const double *numbers, size_t count)
{
    open_bracket(json, key, '[');
    for (size_t i = 0; i < count; i++)
        write_number(json, NULL, numbers[i]);
    close_bracket(json, ']');
}
