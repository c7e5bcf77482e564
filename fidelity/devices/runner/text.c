/* UTF-8, printable text and file names; see text.h. */

#include "text.h"

#include <stdint.h>
#include <string.h>

#include "sha256.h"

size_t utf8_length(const char *text)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (byte[0] == 0)
        return 0;
    if (byte[0] < 0x80)
        return 1;
    size_t length = byte[0] >= 0xf0 ? 4 : byte[0] >= 0xe0 ? 3 : 2;
    if (byte[0] < 0xc2 || byte[0] > 0xf4)
        return 0;
    uint32_t code = byte[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) { /* ends at a NUL, which is no continuation */
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (byte[i] & 0x3fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code < least[length] || code > 0x10ffff || surrogate ? 0 : length;
}

bool is_utf8(const char *text)
{
    while (*text) {
        size_t length = utf8_length(text);
        if (length == 0)
            return false;
        text += length;
    }
    return true;
}

void make_printable(char *text)
{
    while (*text) {
        size_t length = utf8_length(text);
        if (length == 0)
            *text = '?';
        else if (length == 1 && ((unsigned char)*text < 0x20 || *text == 0x7f))
            *text = ' ';
        text += length ? length : 1;
    }
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

void safe_name(const char *name, char safe[SAFE_NAME])
{
    size_t kept = 0;
    for (const char *at = name; *at && kept < 80;) { /* 80 characters, not bytes */
        size_t length = utf8_length(at);
        safe[kept++] = is_plain(*at) ? *at : '_';
        at += length ? length : 1;
    }
    safe[kept] = 0;
    if (strcmp(safe, name) == 0)
        return;
    char digest[SHA256_HEX];
    sha256_hex(name, strlen(name), digest);
    safe[kept] = '-';
    memcpy(safe + kept + 1, digest, 8);
    safe[kept + 9] = 0;
}
