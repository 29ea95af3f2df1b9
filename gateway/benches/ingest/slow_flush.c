/* A disk for nbdkit (nbdkit cc slow_flush.c image=FILE control=FILE): a file, every flush of which takes as long as the
 * control file says. The control file holds two numbers of eight bytes: the delay in microseconds, which may be changed
 * at any time, and the number of flushes so far. The bytes are not really flushed: the disk below has its own speed. */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static const char *image, *control;
static int file = -1;
static volatile int64_t *shared;

static int slow_config(const char *key, const char *value)
{
    if (strcmp(key, "image") == 0)
        image = nbdkit_absolute_path(value);
    else if (strcmp(key, "control") == 0)
        control = nbdkit_absolute_path(value);
    else {
        nbdkit_error("unknown parameter %s", key);
        return -1;
    }
    return 0;
}

static int slow_get_ready(void)
{
    int fd;

    if (!image || !control) {
        nbdkit_error("image= and control= are needed");
        return -1;
    }
    file = open(image, O_RDWR | O_CLOEXEC);
    fd = open(control, O_RDWR | O_CLOEXEC);
    if (file < 0 || fd < 0) {
        nbdkit_error("cannot open %s or %s: %m", image, control);
        return -1;
    }
    shared = mmap(NULL, 2 * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED) {
        nbdkit_error("cannot map %s: %m", control);
        return -1;
    }
    return 0;
}

static void *slow_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t slow_get_size(void *handle)
{
    struct stat status;

    (void)handle;
    return fstat(file, &status) == 0 ? (int64_t)status.st_size : -1;
}

static int slow_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    while (count > 0) {
        ssize_t done = pread(file, buffer, count, (off_t)offset);

        if (done <= 0)
            return -1;
        buffer = (char *)buffer + done;
        count -= (uint32_t)done;
        offset += (uint64_t)done;
    }
    return 0;
}

static int slow_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    while (count > 0) {
        ssize_t done = pwrite(file, buffer, count, (off_t)offset);

        if (done <= 0)
            return -1;
        buffer = (const char *)buffer + done;
        count -= (uint32_t)done;
        offset += (uint64_t)done;
    }
    return 0;
}

static int slow_flush(void *handle, uint32_t flags)
{
    int64_t delay = shared[0];
    struct timespec rest = { .tv_sec = delay / 1000000, .tv_nsec = delay % 1000000 * 1000 };

    (void)handle;
    (void)flags;
    __atomic_fetch_add(&shared[1], 1, __ATOMIC_RELAXED);
    while (delay > 0 && nanosleep(&rest, &rest) < 0 && errno == EINTR)
        ;
    return 0;
}

static int slow_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

static struct nbdkit_plugin plugin = {
    .name = "slow_flush",
    .config = slow_config,
    .get_ready = slow_get_ready,
    .open = slow_open,
    .get_size = slow_get_size,
    .pread = slow_pread,
    .pwrite = slow_pwrite,
    .flush = slow_flush,
    .can_multi_conn = slow_can_multi_conn,
};

NBDKIT_REGISTER_PLUGIN(plugin)
