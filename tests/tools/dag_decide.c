/* Reads a DAG as text on standard input and prints what the committer decides on it; the format is that of the
 * consensus oracle (dagtext.py). Blocks go one by one through the machine's own structures, with decisions taken after
 * each, as they would come in. */
#include "consensus/core_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS_MAX 1024

struct text {
    uint16_t n;
    uint32_t ranks, rounds;
    uint16_t leaders[ROUNDS_MAX][CH_VALIDATORS_MAX];
    struct {
        enum ch_decision decision;
        uint8_t leader[8];
    } slots[ROUNDS_MAX][CH_VALIDATORS_MAX];
};

static void leaders(void *context, uint32_t round, uint16_t *authors)
{
    const struct text *text = context;
    memcpy(authors, text->leaders[round], text->ranks * sizeof *authors);
}

static void die(const char *what)
{
    fprintf(stderr, "dag_decide: %s\n", what);
    exit(2);
}

static struct ch_ref parse_id(const char *word)
{
    struct ch_ref ref = {0};
    if (strlen(word) != 16)
        die("an id has 16 hex digits");
    for (int i = 0; i < 8; i++) {
        unsigned byte;
        if (sscanf(word + 2 * i, "%2x", &byte) != 1)
            die("an id has 16 hex digits");
        ref.digest[i] = (uint8_t)byte;
    }
    return ref;
}

static void print_id(FILE *out, const uint8_t *digest)
{
    fputc(' ', out);
    for (int i = 0; i < 8; i++)
        fprintf(out, "%02x", digest[i]);
}

static struct ch_core *open_core(struct text *text, uint32_t gc_depth)
{
    static struct ch_committee committee;
    struct ch_genesis genesis;
    struct ch_core_config config;
    struct ch_core *core;
    const uint8_t chain_id[CH_HASH_BYTES] = {0};
    ch_genesis_defaults(&genesis, text->n);
    genesis.validator_count = text->n;
    for (uint16_t i = 0; i < text->n; i++)
        genesis.validators[i].stake = 1;
    genesis.params.gc_depth = gc_depth;
    genesis.params.leaders_per_round = text->ranks;
    ch_committee_from_genesis(&genesis, chain_id, &committee);
    ch_core_defaults(&config, &committee, CH_CORE_NOBODY);
    config.leaders = leaders;
    config.leaders_context = text;
    const struct ch_core_now now = {0};
    struct ch_core_action action;
    if (ch_core_open(&config, &core) || ch_core_start(core, &now, NULL, 0))
        die("the machine did not start");
    while (ch_core_next_out(core, &action))
        continue;
    return core;
}

static void take_decisions(struct ch_core *core, struct text *text)
{
    decide_open_slots(core);
    for (uint32_t r = core->floor_round + 1; r <= core->max_round; r++)
        for (uint16_t k = 0; k < core->ranks; k++) {
            struct ch_ref leader = {0};
            enum ch_decision decision = ch_core_decision(core, r, k, &leader);
            if (text->slots[r][k].decision != CH_UNDECIDED &&
                (decision != text->slots[r][k].decision || memcmp(leader.digest, text->slots[r][k].leader, 8) != 0))
                die("a decision changed");
            text->slots[r][k].decision = decision;
            memcpy(text->slots[r][k].leader, leader.digest, 8);
        }
}

static void print_commits(struct ch_core *core, FILE *out)
{
    struct ch_core_action action;
    core->lsn_synced = core->lsn;
    deliveries_synced(core);
    while (ch_core_next_out(core, &action)) {
        if (action.type == CH_ACTION_HALT)
            die(ch_halt_name(action.halt));
        if (action.type != CH_ACTION_DELIVER)
            continue;
        fprintf(out, "commit %llu", (unsigned long long)action.deliver.index);
        print_id(out, action.deliver.bytes.data + 46 + 8);
        for (uint32_t i = 0; i < action.deliver.block_count; i++)
            print_id(out, action.deliver.blocks[i].ref.digest);
        fputc('\n', out);
    }
}

static void add_block(struct ch_core *core, const struct ch_ref *ref, const struct ch_ref *ancestors, uint16_t count)
{
    struct ch_block_draft draft = {
        .round = ref->round, .author = ref->author, .ancestor_count = count, .ancestors = ancestors};
    uint32_t id = block_new(core, ref);
    if (id == NONE)
        die("too many blocks");
    core->blocks[id].length = ch_block_write(&draft, block_header(core, id));
    core->blocks[id].payload_here = true;
    accept_own(core, id);
}

int main(void)
{
    static struct text text;
    static struct ch_ref known[65536];
    static char line[65536], commits[1 << 20];
    uint32_t known_count = 0, gc_depth = 0;
    struct ch_core *core = NULL;
    FILE *memory = fmemopen(commits, sizeof commits, "w");
    if (!memory)
        die("no memory");
    while (fgets(line, sizeof line, stdin)) {
        char *save, *word = strtok_r(line, " \n", &save);
        if (!word)
            continue;
        if (strcmp(word, "validators") == 0) {
            text.n = (uint16_t)atoi(strtok_r(NULL, " \n", &save));
        } else if (strcmp(word, "gc_depth") == 0) {
            gc_depth = (uint32_t)atoi(strtok_r(NULL, " \n", &save));
        } else if (strcmp(word, "leaders") == 0) {
            uint32_t round = (uint32_t)atoi(strtok_r(NULL, " \n", &save)), k = 0;
            if (round >= ROUNDS_MAX)
                die("too many rounds");
            while ((word = strtok_r(NULL, " \n", &save)) && k < CH_VALIDATORS_MAX)
                text.leaders[round][k++] = (uint16_t)atoi(word);
            text.ranks = k;
        } else if (strcmp(word, "block") == 0) {
            struct ch_ref ref = parse_id(strtok_r(NULL, " \n", &save)), ancestors[CH_VALIDATORS_MAX];
            uint16_t count = 0;
            ref.author = (uint16_t)atoi(strtok_r(NULL, " \n", &save));
            ref.round = (uint32_t)atoi(strtok_r(NULL, " \n", &save));
            if (known_count == sizeof known / sizeof *known || ref.round >= ROUNDS_MAX)
                die("too many blocks");
            known[known_count++] = ref;
            while ((word = strtok_r(NULL, " \n", &save))) {
                struct ch_ref a = parse_id(word);
                uint32_t i = 0;
                while (i < known_count && memcmp(known[i].digest, a.digest, 8) != 0)
                    i++;
                if (i == known_count || count == CH_VALIDATORS_MAX)
                    die("an ancestor comes before its child");
                ancestors[count++] = known[i];
            }
            if (!core)
                core = open_core(&text, gc_depth);
            if (ref.round == 0)
                continue;
            if (ref.round > text.rounds)
                text.rounds = ref.round;
            core_begin(core);
            add_block(core, &ref, ancestors, count);
            take_decisions(core, &text);
            decide(core);
            print_commits(core, memory);
        }
    }
    if (!core)
        die("no blocks");
    for (uint32_t r = 1; r <= text.rounds; r++)
        for (uint16_t k = 0; k < text.ranks; k++) {
            static const char *const names[] = {"UNDECIDED", "COMMIT", "SKIP"};
            printf("slot %u %u %s", r, k, names[text.slots[r][k].decision]);
            if (text.slots[r][k].decision == CH_COMMIT)
                print_id(stdout, text.slots[r][k].leader);
            putchar('\n');
        }
    fclose(memory);
    if (text.rounds == 0)
        putchar('\n'); /* an answer of no lines still ends one */
    fputs(commits, stdout);
    ch_core_close(core);
    return 0;
}
