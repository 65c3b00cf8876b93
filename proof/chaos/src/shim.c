/* Faults inside one process, loaded before its libraries: its clocks and its syncs.
 *
 * Answers for: wall clock offsets, a rate of all clocks within a bound that the harness keeps, and
 * syncs that are slow or fail. The harness writes the faults into a small control file and rewrites
 * it while the process runs (FLUXGATE_CHAOS_SHIM names it), so the process itself takes no part.
 * Must never change anything that the control file does not ask for. Ends the process at the start
 * if it cannot do its work: a fault without effect would prove nothing.
 *
 * A Rust program reads clocks without libc where it can, straight from the page that the kernel
 * maps into every process (the vDSO). So the clocks are changed there: the first bytes of its
 * functions become a jump to the ones below. */

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the jump below is written for x86-64"
#endif

#define SECOND_NS 1000000000LL
#define JUMP_BYTES 12

/* The control file, as shim.rs writes it. While it is being written its sequence number is odd. */
struct control {
    uint64_t sequence;
    int64_t rate_ppb;       /* how much faster all clocks run */
    int64_t anchor_ns;      /* the monotonic moment from which they do */
    int64_t skew_ns;        /* how far they were ahead at that moment */
    int64_t wall_offset_ns; /* added to the wall clock alone */
    int64_t sync_delay_us;  /* added to every sync */
    int64_t sync_errno;     /* error of every sync; 0: none */
    int64_t reserved;
};

static volatile struct control *shared;

static void die(const char *why) {
    dprintf(2, "chaos shim: %s\n", why);
    _exit(70);
}

static struct control read_control(void) {
    struct control copy;
    uint64_t before;
    do {
        before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
        memcpy(&copy, (const void *)shared, sizeof copy);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while ((before & 1) || before != __atomic_load_n(&shared->sequence, __ATOMIC_RELAXED));
    return copy;
}

static int64_t raw_ns(clockid_t clock, long *result) {
    struct timespec at = {0, 0};
    *result = syscall(SYS_clock_gettime, clock, &at);
    return at.tv_sec * SECOND_NS + at.tv_nsec;
}

static int changed_clock(clockid_t clock, struct timespec *out) {
    long result;
    int64_t ns = raw_ns(clock, &result);
    if (result != 0)
        return -errno;
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
                 clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
    if (wall || steady) {
        struct control c = read_control();
        int64_t since = raw_ns(CLOCK_MONOTONIC, &result) - c.anchor_ns;
        ns += c.skew_ns + (int64_t)((__int128)since * c.rate_ppb / SECOND_NS);
        if (wall)
            ns += c.wall_offset_ns;
    }
    out->tv_sec = ns / SECOND_NS;
    out->tv_nsec = ns % SECOND_NS;
    return 0;
}

static int changed_timeofday(struct timeval *out, void *zone) {
    (void)zone;
    struct timespec at;
    if (out != NULL && changed_clock(CLOCK_REALTIME, &at) == 0) {
        out->tv_sec = at.tv_sec;
        out->tv_usec = at.tv_nsec / 1000;
    }
    return 0;
}

static void jump(unsigned char *from, void *to) {
    unsigned char code[JUMP_BYTES] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
    memcpy(code + 2, &to, sizeof to); /* mov rax, to; jmp rax */
    memcpy(from, code, JUMP_BYTES);
}

/* The length of the mapping that begins at this address. */
static size_t mapped_bytes(const unsigned char *base) {
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    size_t bytes = 0;
    while (maps != NULL && bytes == 0 && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from == (unsigned long)base)
            bytes = to - from;
    }
    if (maps != NULL)
        fclose(maps);
    return bytes;
}

/* The vDSO page is not writable, but a changed copy may be mapped over it. */
static void replace_vdso(void) {
    unsigned char *base = (unsigned char *)getauxval(AT_SYSINFO_EHDR);
    size_t bytes = base == NULL ? 0 : mapped_bytes(base);
    if (bytes == 0)
        die("there is no vDSO");
    unsigned char *copy = malloc(bytes);
    if (copy == NULL)
        die("out of memory");
    memcpy(copy, base, bytes);
    int changed = 0;
    Elf64_Ehdr *head = (Elf64_Ehdr *)copy;
    Elf64_Shdr *sections = (Elf64_Shdr *)(copy + head->e_shoff);
    for (int s = 0; s < head->e_shnum; s++) {
        if (sections[s].sh_type != SHT_DYNSYM)
            continue;
        Elf64_Sym *symbols = (Elf64_Sym *)(copy + sections[s].sh_offset);
        const char *names = (const char *)(copy + sections[sections[s].sh_link].sh_offset);
        for (size_t i = 0; i < sections[s].sh_size / sizeof *symbols; i++) {
            const char *name = names + symbols[i].st_name;
            if (strcmp(name, "__vdso_clock_gettime") == 0) {
                jump(copy + symbols[i].st_value, (void *)changed_clock);
                changed++;
            } else if (strcmp(name, "__vdso_gettimeofday") == 0) {
                jump(copy + symbols[i].st_value, (void *)changed_timeofday);
            }
        }
    }
    if (changed != 1)
        die("the vDSO has no clock");
    /* No clock is read between these: the constructor runs alone. */
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
        base)
        die("the vDSO cannot be replaced");
    memcpy(base, copy, bytes);
    if (mprotect(base, bytes, PROT_READ | PROT_EXEC) != 0)
        die("the vDSO's copy cannot be run");
    free(copy);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FLUXGATE_CHAOS_SHIM");
    if (path == NULL)
        die("FLUXGATE_CHAOS_SHIM is not set");
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        die("the control file cannot be opened");
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
        die("the control file cannot be mapped");
    close(file);
    shared = mapped;
    replace_vdso();
}

static int faulty_sync(long call, int file) {
    struct control c = read_control();
    if (c.sync_delay_us > 0) {
        struct timespec pause = {c.sync_delay_us / 1000000, c.sync_delay_us % 1000000 * 1000};
        syscall(SYS_nanosleep, &pause, NULL);
    }
    if (c.sync_errno != 0) {
        errno = (int)c.sync_errno;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return faulty_sync(SYS_fsync, file); }

int fdatasync(int file) { return faulty_sync(SYS_fdatasync, file); }
