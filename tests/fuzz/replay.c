/* Feeds a fuzz target its corpus, without libFuzzer: every file of the folders named, whole and cut short at each of
 * its first bytes, in a buffer of exactly that size so that a sanitizer sees a read past the end. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX (4u << 20)
#define CUTS_MAX        1500u /* longer than the longest transaction */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int replay_file(const char *path)
{
    static uint8_t data[INPUT_BYTES_MAX];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 0;
    }
    size_t size = fread(data, 1, sizeof data, file);
    int whole = feof(file) || fgetc(file) == EOF;
    fclose(file);
    if (!whole) {
        fprintf(stderr, "%s: longer than %u bytes\n", path, INPUT_BYTES_MAX);
        return 0;
    }
    feed(data, size);
    for (size_t cut = 0; cut < size && cut < CUTS_MAX; cut++)
        feed(data, cut);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned replayed = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(folder));) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            int length = snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (length > 0 && (size_t)length < sizeof path && replay_file(path))
                replayed++;
            else
                failed++;
        }
        closedir(folder);
    }
    printf("%u inputs replayed, %u unreadable\n", replayed, failed);
    return failed || !replayed;
}
