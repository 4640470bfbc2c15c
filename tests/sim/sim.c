/* sim - whole clusters under faults, seed by seed (docs/consensus.md 19, 20, 22).
 *
 *   sim --seeds N [--first S] [--mode safety|liveness] [--events E]   N seeds; without a mode they take turns
 *   sim --seed X [--mode ...]                                          one seed, with the state at its end
 *   sim --forever [--first S]                                          until one fails
 *   sim --seeds N --until-one-fails                                    the same, at most N
 *
 * Every seed runs twice and must end in the same state. Exit: 0 all good; 1 a seed failed, or what should happen
 * sometimes never did; 2 usage.
 */
#include <getopt.h>
#include <signal.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define SOMETIMES_SEEDS 100  /* fewer need not show everything */
#define RARELY_SEEDS    1000 /* what happens in a few seeds of a thousand */

static volatile uint64_t seed_now;
static volatile bool liveness_now;

/* An assert of the machine: say which seed. */
static void aborted(int number)
{
    char text[96];
    int length = snprintf(text, sizeof text, "seed %llu --mode %s: aborted (signal %d)\n", (unsigned long long)seed_now,
                          liveness_now ? "liveness" : "safety", number);
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(3);
    signal(number, SIG_DFL);
    raise(number);
}

static bool one(uint64_t seed, struct sim_options options, struct sim_totals *totals, struct sim_result *result)
{
    struct sim_result again;
    const bool liveness = options.liveness;
    seed_now = seed;
    liveness_now = liveness;
    sim_run(seed, &options, totals, result);
    options.trace = false;
    sim_run(seed, &options, NULL, &again);
    if (memcmp(result->digest, again.digest, sizeof again.digest) != 0) {
        fprintf(stderr, "seed %llu --mode %s: I12: two runs end in different states\n", (unsigned long long)seed,
                liveness ? "liveness" : "safety");
        return false;
    }
    return !result->failed;
}

/* Never in a run of this length, or only with what isn't simulated. */
static bool may_be_zero(const char *name)
{
    static const char *const names[] = {"blocks_refused_quota", "blocks_refused_full", "blocks_evicted",
                                        "sends_dropped", "messages_malformed", "slots_timely"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool rare(const char *name)
{
    static const char *const names[] = {"equivocating_leaders_committed",
                                        "weak_links_dropped",
                                        "disks_full",
                                        "rot_found",
                                        "backups_refused",
                                        "damaged_rejoined",
                                        "dropped_uncommitted",
                                        "fault CRASH_ALL",
                                        "fault OLD_BACKUP",
                                        "fault BIT_ROT",
                                        "strategy FALSE_I_AM",
                                        "strategy FALSE_COMMITS"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool counted(const char *name, uint64_t count, uint64_t seeds)
{
    const bool must = seeds >= (rare(name) ? RARELY_SEEDS : SOMETIMES_SEEDS);
    printf("%-34s %llu\n", name, (unsigned long long)count);
    if (!must || count || may_be_zero(name))
        return true;
    fprintf(stderr, "%s: never\n", name);
    return false;
}

static bool sometimes(const struct sim_totals *t, uint64_t seeds)
{
    unsigned i = 0;
    bool good = true;
#define X(name) good &= counted(#name, t->core.name, seeds);
    CH_CORE_COUNTER_LIST(X)
#undef X
#define X(name) good &= counted(#name, t->seen.name, seeds);
    SIM_COUNTER_LIST(X)
#undef X
#define X(name) good &= counted("fault " #name, t->seen.faults[i++], seeds);
    SIM_FAULT_LIST(X)
#undef X
    i = 0;
#define X(name) good &= counted("strategy " #name, t->seen.strategies[i++], seeds);
    SIM_STRATEGY_LIST(X)
#undef X
    return good;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    if (!*text || *end) {
        fprintf(stderr, "sim: %s is not a number\n", text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'}, {"first", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},  {"mode", required_argument, NULL, 'm'},
        {"events", required_argument, NULL, 'e'}, {"forever", no_argument, NULL, 'a'},
        {"until-one-fails", no_argument, NULL, 'u'}, {0}};
    uint64_t seeds = 1, first = 1, events = 8000, failures = 0, done = 0;
    bool single = false, forever = false, stop = false;
    int mode = -1, option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'n':
            seeds = number(optarg);
            break;
        case 's':
            single = true;
            first = number(optarg);
            break;
        case 'f':
            first = number(optarg);
            break;
        case 'e':
            events = number(optarg);
            break;
        case 'a':
            forever = true;
            break;
        case 'u':
            stop = true;
            break;
        case 'm':
            mode = strcmp(optarg, "liveness") == 0 ? 1 : strcmp(optarg, "safety") == 0 ? 0 : 2;
            if (mode < 2)
                break;
            __attribute__((fallthrough));
        default:
            fprintf(stderr, "usage: sim [--seeds N] [--first S] [--seed X] [--mode safety|liveness] [--events E] "
                            "[--forever] [--until-one-fails]\n");
            return 2;
        }
    signal(SIGABRT, aborted);
    signal(SIGSEGV, aborted);
    struct sim_totals totals = {0};
    struct sim_result total = {0};
    for (uint64_t i = 0; forever ? !failures : i < seeds && !(stop && failures); i++) {
        struct sim_result result;
        const uint64_t seed = first + i;
        const struct sim_options how = {mode < 0 ? seed & 1 : mode == 1, single, events};
        failures += !one(seed, how, &totals, &result);
        total.events += result.events;
        total.commits += result.commits;
        total.rounds += result.rounds;
        total.virtual_us += result.virtual_us;
        done++;
        if (forever && done % 1000 == 0) {
            printf("%llu seeds\n", (unsigned long long)done);
            fflush(stdout);
        }
    }
    printf(
        "%llu seeds from %llu, each twice: %llu failed; %llu events, %llu rounds, %llu commits, %.0f s of virtual time\n",
        (unsigned long long)done, (unsigned long long)first, (unsigned long long)failures,
        (unsigned long long)total.events, (unsigned long long)total.rounds, (unsigned long long)total.commits,
        (double)total.virtual_us / SIM_SECOND);
    const bool all = single || sometimes(&totals, done);
    return failures || !all;
}
