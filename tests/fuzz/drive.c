/* A fuzzer of the simplest kind, for computers without clang: seeds, and seeds changed at random, until time is up.
 *
 * It understands of libFuzzer's command line what tools/fuzz.py says: -max_total_time, -seed, -max_len, -runs,
 * -artifact_prefix, files and folders. The input that is being tried stands in a mapped file, so that it is there
 * whatever kills the process. It follows no coverage.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SEEDS_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *count, char ***arguments);

static struct { uint8_t *bytes; size_t size; } seeds[SEEDS_MAX];
static size_t seed_count, size_max = 2048;
static uint64_t chance = 1, runs;
static uint8_t *shown; /* 8 bytes of size, then the input */
static char shown_path[4096];

static uint64_t draw(uint64_t bound) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance % bound;
}

static void show_begin(const char *prefix) {
    int fd;
    snprintf(shown_path, sizeof(shown_path), "%sinput-at-work", prefix);
    fd = open(shown_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)(1 << 20) + 8) != 0) exit(2);
    shown = mmap(NULL, (1 << 20) + 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shown == MAP_FAILED) exit(2);
    close(fd);
}

static void try_one(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size); /* so that one byte too far is seen */
    uint64_t told = size;
    memcpy(shown, &told, 8);
    if (size != 0) memcpy(shown + 8, data, size);
    if (size != 0) memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    runs++;
}

static void seed_add(const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);
    if (file == NULL || bytes == NULL) exit(2);
    if (seed_count < SEEDS_MAX) {
        seeds[seed_count].size = fread(bytes, 1, 1 << 20, file);
        seeds[seed_count++].bytes = realloc(bytes, seeds[seed_count].size + 1);
    }
    fclose(file);
}

static void seeds_add(const char *path) {
    struct stat facts;
    struct dirent *entry;
    char inner[4096];
    DIR *folder;
    if (stat(path, &facts) != 0) exit(2);
    if (!S_ISDIR(facts.st_mode)) {
        seed_add(path);
        return;
    }
    folder = opendir(path);
    while ((entry = readdir(folder)) != NULL) {
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') seeds_add(inner);
    }
    closedir(folder);
}

static size_t changed(uint8_t *target) {
    size_t from = seed_count ? draw(seed_count) : 0;
    size_t size = seed_count && seeds[from].size <= size_max ? seeds[from].size : 0;
    if (size != 0) memcpy(target, seeds[from].bytes, size);
    for (uint64_t faults = 1 + draw(6); faults != 0; faults--) {
        uint64_t kind = draw(6), place = size ? draw(size) : 0;
        if (size < 2 || (kind == 0 && size < size_max)) { /* a byte more */
            memmove(target + place + 1, target + place, size - place);
            target[place] = (uint8_t)draw(256);
            size++;
        } else if (kind == 1) {
            target[place] = (uint8_t)draw(256);
        } else if (kind == 2) {
            target[place] ^= (uint8_t)(1 << draw(8));
        } else if (kind == 3) { /* cut */
            size = place + 1;
        } else if (kind == 4 && seed_count) { /* another one behind it */
            size_t other = draw(seed_count), added = seeds[other].size;
            if (added > size_max - size) added = size_max - size;
            memcpy(target + size, seeds[other].bytes, added);
            size += added;
        } else { /* a byte less */
            memmove(target + place, target + place + 1, size - place - 1);
            size--;
        }
    }
    return size;
}

int main(int count, char **arguments) {
    time_t seconds = 0;
    uint64_t runs_max = UINT64_MAX;
    const char *prefix = "./";
    uint8_t *target;
    time_t end;
    for (int i = 1; i < count; i++) {
        if (sscanf(arguments[i], "-max_total_time=%ld", &seconds) == 1) continue;
        if (sscanf(arguments[i], "-max_len=%zu", &size_max) == 1) continue;
        if (sscanf(arguments[i], "-runs=%lu", &runs_max) == 1) continue;
        if (sscanf(arguments[i], "-seed=%lu", &chance) == 1) continue;
        if (strncmp(arguments[i], "-artifact_prefix=", 17) == 0) prefix = arguments[i] + 17;
        else if (arguments[i][0] != '-') seeds_add(arguments[i]);
    }
    chance = chance * 0x9E3779B97F4A7C15u | 1;
    target = malloc(size_max + 1);
    show_begin(prefix);
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&count, &arguments);
    for (size_t i = 0; i < seed_count; i++) try_one(seeds[i].bytes, seeds[i].size);
    for (end = time(NULL) + seconds; seconds != 0 && time(NULL) < end && runs < runs_max;) try_one(target, changed(target));
    unlink(shown_path);
    fprintf(stderr, "stat::number_of_executed_units: %lu\n", runs);
    for (size_t i = 0; i < seed_count; i++) free(seeds[i].bytes);
    free(target);
    return 0;
}
