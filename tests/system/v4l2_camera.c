/* A V4L2 camera for tests, inside the process that opens it: LD_PRELOAD of this answers the calls that OpenCV makes.
 *
 * A device is a plain file whose name starts with LD_V4L2_CAMERA (an absolute path). It gives 320x240 YUYV at 25 pictures a
 * second, each another. When the file is removed the device is gone: ENODEV, as when a cable is pulled.
 *   cc -shared -fPIC -o v4l2_camera.so v4l2_camera.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 320, HEIGHT = 240, SIZE = WIDTH * HEIGHT * 2, BUFFERS = 4, FDS = 1024, FPS = 25 };

static char is_device[FDS];
static unsigned char *memory[BUFFERS];
static int queue[BUFFERS], queued;
static unsigned sequence;

static int opened(const char *path, int fd) {
    const char *prefix = getenv("LD_V4L2_CAMERA");
    char real[PATH_MAX];
    if (fd >= 0 && fd < FDS && prefix && realpath(path, real))
        is_device[fd] = strncmp(real, prefix, strlen(prefix)) == 0;
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                \
        return opened(path, real(path, flags, mode));                                                                  \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < FDS) is_device[fd] = 0;
    return real(fd);
}

#define MMAP(name)                                                                                                     \
    void *name(void *where, size_t length, int protection, int flags, int fd, off_t offset) {                          \
        void *(*real)(void *, size_t, int, int, int, off_t) =                                                          \
            (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, #name);                                  \
        if (fd < 0 || fd >= FDS || !is_device[fd]) return real(where, length, protection, flags, fd, offset);          \
        void *found = real(where, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);                 \
        if (found != MAP_FAILED && offset / SIZE < BUFFERS) memory[offset / SIZE] = found;                             \
        return found;                                                                                                  \
    }
MMAP(mmap)
MMAP(mmap64)

static int no(int error) {
    errno = error;
    return -1;
}

static void describe(struct v4l2_format *format) {
    struct v4l2_pix_format pix = {.width = WIDTH, .height = HEIGHT, .pixelformat = V4L2_PIX_FMT_YUYV,
                                  .field = V4L2_FIELD_NONE, .bytesperline = WIDTH * 2, .sizeimage = SIZE};
    format->fmt.pix = pix;
}

static int dequeue(struct v4l2_buffer *buffer) {
    struct timespec pause = {0, 1000000000 / FPS};
    nanosleep(&pause, NULL);
    if (!queued) return no(EAGAIN);
    int index = queue[0];
    memmove(queue, queue + 1, sizeof(queue) - sizeof(queue[0]));
    queued--;
    sequence++;
    for (int at = 0; at < SIZE; at += 2) {
        memory[index][at] = (unsigned char)(60 + (at * 7 + sequence * 13) % 120);
        memory[index][at + 1] = 128;
    }
    buffer->index = (unsigned)index;
    buffer->bytesused = SIZE;
    buffer->length = SIZE;
    buffer->sequence = sequence;
    return 0;
}

static int answer(int fd, unsigned long request, void *argument) {
    struct stat status;
    if (fstat(fd, &status) || status.st_nlink == 0) return no(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = argument;
        memset(capability, 0, sizeof(*capability));
        strcpy((char *)capability->driver, "stand-in");
        strcpy((char *)capability->card, "Plant Camera");
        capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = argument;
        if (format->index) return no(EINVAL);
        format->pixelformat = V4L2_PIX_FMT_YUYV;
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *size = argument;
        if (size->index) return no(EINVAL);
        size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        size->discrete.width = WIDTH;
        size->discrete.height = HEIGHT;
        return 0;
    }
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
    case VIDIOC_TRY_FMT:
        describe(argument);
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *parameters = argument;
        parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        parameters->parm.capture.timeperframe.numerator = 1;
        parameters->parm.capture.timeperframe.denominator = FPS;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *asked = argument;
        if (asked->memory != V4L2_MEMORY_MMAP) return no(EINVAL);
        if (asked->count > BUFFERS) asked->count = BUFFERS;
        queued = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->length = SIZE;
        buffer->m.offset = buffer->index * SIZE;
        return 0;
    }
    case VIDIOC_QBUF:
        if (queued < BUFFERS) queue[queued++] = (int)((struct v4l2_buffer *)argument)->index;
        return 0;
    case VIDIOC_DQBUF:
        return dequeue(argument);
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_S_INPUT:
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        return 0;
    default:
        return no(EINVAL);
    }
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (fd >= 0 && fd < FDS && is_device[fd]) return answer(fd, (unsigned int)request, argument);
    int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}
