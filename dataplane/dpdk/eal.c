/* DPDK's environment: its arguments made from our settings, and threads made known to it. */
#include "dataplane/dpdk/port_dpdk.h"
#include "dataplane/port_kind.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDINARY_MIB   128 /* two ports with default buffers */
#define HUGEPAGES_MIB  64
#define ARGUMENTS_MAX  10
#define ARGUMENT_BYTES 32

static enum { NEVER, STARTED, OVER } eal;
static bool hugepages;

static uint64_t read_number(const char *folder, const char *name)
{
    char path[512];
    uint64_t value = 0;
    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (file) {
        char line[32];
        if (fgets(line, sizeof line, file))
            value = strtoull(line, NULL, 10);
        fclose(file);
    }
    return value;
}

/* MiB of free hugepages of all sizes ("hugepages-2048kB"). */
static uint64_t hugepages_free_mib(void)
{
    uint64_t kib = 0;
    DIR *sizes = opendir("/sys/kernel/mm/hugepages");
    for (struct dirent *d; sizes && (d = readdir(sizes));)
        if (strncmp(d->d_name, "hugepages-", 10) == 0)
            kib += strtoull(d->d_name + 10, NULL, 10) * read_number(d->d_name, "free_hugepages");
    if (sizes)
        closedir(sizes);
    return kib / 1024;
}

/* rte_eal_init, without what it does to the thread that calls it. */
static int start(const char *const *arguments, int count)
{
    char copies[ARGUMENTS_MAX][ARGUMENT_BYTES], *given[ARGUMENTS_MAX + 1] = {NULL}; /* EAL reorders and writes */
    for (int i = 0; i < count; i++) {
        snprintf(copies[i], ARGUMENT_BYTES, "%s", arguments[i]);
        given[i] = copies[i];
    }
    /* EAL's threads inherit the mask: signals stay with the program's threads. EAL pins its caller: undone below. */
    sigset_t all, before;
    cpu_set_t cpus;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int affinity = pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus);
    int result = rte_eal_init(count, given);
    int reason = rte_errno;
    if (affinity == 0)
        pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    rte_errno = reason;
    return result;
}

ch_err ch_dpdk_start(const struct ch_dpdk_config *config, char why[CH_PORT_WHY_BYTES])
{
    if (eal != NEVER)
        return ch_port_fail(why, CH_ERR_EXISTS, "DPDK was started before in this process");
    uint32_t wanted_mib = config->memory_mib ? config->memory_mib : HUGEPAGES_MIB;
    uint64_t free_mib = hugepages_free_mib();
    hugepages = config->memory != CH_DPDK_MEMORY_ORDINARY && free_mib >= wanted_mib;
    if (config->memory == CH_DPDK_MEMORY_HUGEPAGES && !hugepages)
        return ch_port_fail(
            why, CH_ERR_NO_MEMORY,
            "%llu MiB of hugepages are free, %u are needed (sysctl vm.nr_hugepages=N, each mostly 2 MiB)",
            (unsigned long long)free_mib, wanted_mib);
    cpu_set_t cpus;
    int cpu = 0;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &cpus))
            cpu++;

    char memory[16], lcores[24];
    snprintf(memory, sizeof memory, "%u", config->memory_mib ? config->memory_mib : ORDINARY_MIB);
    snprintf(lcores, sizeof lcores, "--lcores=0@%d", cpu);
    const char *log = config->verbose ? "--log-level=info" : "--log-level=*:critical";
    const char *in_hugepages[] = {"chappe", "--in-memory", "--no-pci", "--no-telemetry", lcores, log};
    const char *ordinary[] = {"chappe", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry",
                              "-m",     memory,      lcores,        log};
    eal = OVER;
    int result = hugepages ? start(in_hugepages, sizeof in_hugepages / sizeof *in_hugepages)
                           : start(ordinary, sizeof ordinary / sizeof *ordinary);
    if (result < 0) {
        bool memory_short = rte_errno == ENOMEM, denied = rte_errno == EACCES || rte_errno == EPERM;
        return ch_port_fail(why,
                            memory_short ? CH_ERR_NO_MEMORY
                            : denied     ? CH_ERR_DENIED
                                         : CH_ERR_UNSUPPORTED,
                            "DPDK can't start with %s: %s", hugepages ? "hugepages" : "ordinary pages",
                            rte_strerror(rte_errno));
    }
    eal = STARTED;
    return CH_OK;
}

void ch_dpdk_stop(void)
{
    if (eal != STARTED)
        return;
    rte_eal_cleanup();
    eal = OVER;
    hugepages = false;
}

bool ch_dpdk_hugepages(void)
{
    return eal == STARTED && hugepages;
}

ch_err ch_dpdk_thread_enter(void)
{
    if (rte_lcore_id() != LCORE_ID_ANY)
        return CH_OK;
    return rte_thread_register() == 0 ? CH_OK : CH_ERR_FULL;
}

void ch_dpdk_thread_leave(void)
{
    if (rte_lcore_id() != LCORE_ID_ANY)
        rte_thread_unregister(); /* does nothing in the thread that started EAL */
}
