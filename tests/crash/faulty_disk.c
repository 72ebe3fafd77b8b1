/* A disk that fails or loses power at the n-th sync or write of a log, laid over a real process by LD_PRELOAD.
 *
 *   FAULT_DIRECTORY   only files whose path has this in it
 *   FAULT_CALL        sync | write: which calls are counted
 *   FAULT_AFTER       the n-th one, from 1 on, and all behind it
 *   FAULT_ACTION      errno as a number: the call fails with it; of a write the first half is done all the same
 *                     "drop":  a sync fails with EIO, and what was written since the last good one is gone (as Linux does it)
 *                     "lie":   "power" on a disk that says done of each sync before, and has done nothing
 *                     "power": the process ends by SIGKILL, and of what was not synced any sectors are gone (FAULT_SEED says which)
 *
 * What was written and not synced is remembered with what stood there before, so that it can be undone: a kill alone leaves it in the
 * page cache, where the next process finds it. Only data are lost here, never names or sizes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define WRITES_MAX 4096

typedef struct {
    int fd;
    size_t size;
    off_t offset;
    uint8_t* before;
} Write;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Write writes[WRITES_MAX];
static int write_count;
static long call_count;
static uint64_t dice;
static ssize_t (*real_pwrite)(int, const void*, size_t, off_t);
static int (*real_fdatasync)(int);
static int (*real_close)(int);

static const char* word(const char* name) {
    const char* found = getenv(name);
    return found ? found : "";
}

__attribute__((constructor)) static void begin(void) {
    real_pwrite = (ssize_t (*)(int, const void*, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    dice = strtoull(word("FAULT_SEED"), NULL, 10) * 2 + 1;
}

static int is_watched(int fd) {
    char link[64], path[4096];
    ssize_t size;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size <= 0 || !word("FAULT_DIRECTORY")[0]) return 0;
    path[size] = 0;
    return strstr(path, word("FAULT_DIRECTORY")) != NULL;
}

static int is_due(const char* call) {
    return strcmp(word("FAULT_CALL"), call) == 0 && ++call_count >= atol(word("FAULT_AFTER"));
}

static void remember(int fd, size_t size, off_t offset) {
    if (write_count == WRITES_MAX) abort();
    Write* one = &writes[write_count++];
    *one = (Write){fd, size, offset, calloc(1, size ? size : 1)};
    if (!one->before || pread(fd, one->before, size, offset) < 0) abort();
}

static void forget(int fd) {
    int kept = 0;
    for (int number = 0; number < write_count; number++) {
        if (writes[number].fd == fd) free(writes[number].before);
        else writes[kept++] = writes[number];
    }
    write_count = kept;
}

static int rolled(int sides) {
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return (int)((dice >> 24) % (uint64_t)sides);
}

/* Backwards, so that of two writes to one place the older "before" is what stays. */
static void undo(int may_keep) {
    int all = may_keep && rolled(3) == 0;
    for (int number = write_count - 1; number >= 0; number--) {
        Write* one = &writes[number];
        for (size_t done = 0; done < one->size;) {
            size_t room = SECTOR - (size_t)(one->offset + (off_t)done) % SECTOR;
            size_t size = one->size - done < room ? one->size - done : room;
            if (!may_keep || all || rolled(2)) real_pwrite(one->fd, one->before + done, size, one->offset + (off_t)done);
            done += size;
        }
    }
}

static int failed(int fd) {
    const char* action = word("FAULT_ACTION");
    if (strcmp(action, "power") == 0 || strcmp(action, "lie") == 0) {
        undo(action[0] == 'p');
        kill(getpid(), SIGKILL);
        pause();
    }
    if (strcmp(action, "drop") == 0) {
        undo(0);
        forget(fd);
        return EIO;
    }
    return atoi(action);
}

static ssize_t watched_pwrite(int fd, const void* data, size_t size, off_t offset) {
    ssize_t done;
    pthread_mutex_lock(&mutex);
    if (is_due("write")) {
        if (size > 1 && real_pwrite(fd, data, size / 2, offset) < 0) abort();
        errno = failed(fd);
        done = -1;
    } else {
        remember(fd, size, offset);
        done = real_pwrite(fd, data, size, offset);
    }
    pthread_mutex_unlock(&mutex);
    return done;
}

ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
    return is_watched(fd) ? watched_pwrite(fd, data, size, offset) : real_pwrite(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
    return pwrite64(fd, data, size, offset);
}

/* Its number may soon be another file's. */
int close(int fd) {
    pthread_mutex_lock(&mutex);
    forget(fd);
    pthread_mutex_unlock(&mutex);
    return real_close(fd);
}

int fdatasync(int fd) {
    int outcome;
    if (!is_watched(fd)) return real_fdatasync(fd);
    pthread_mutex_lock(&mutex);
    if (is_due("sync")) {
        errno = failed(fd);
        outcome = -1;
    } else {
        outcome = real_fdatasync(fd);
        if (outcome == 0 && strcmp(word("FAULT_ACTION"), "lie") != 0) forget(fd);
    }
    pthread_mutex_unlock(&mutex);
    return outcome;
}
