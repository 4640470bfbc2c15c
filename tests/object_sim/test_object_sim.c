/* Objects over a committee in virtual time: what an honest validator called stored is read at every other one, equal,
 * while f of n lie, withhold, are gone or were erased; and who comes back becomes whole again. */
#include "node/spread_impl.h"
#include "tests/object_sim/world.h"

static const unsigned sizes[] = {4, 5, 7, 10};
#define SIZES (sizeof sizes / sizeof *sizes)

static uint64_t seed_of(unsigned test, unsigned round)
{
    return test_seed() + 1000003u * test + round;
}

static unsigned rounds(void)
{
    return test_full() ? 200 : 4;
}

static void read_all_everywhere(struct world *w)
{
    for (unsigned b = 0; b < w->blocks; b++)
        for (unsigned i = 0; i < w->n; i++)
            if (w->block[b].stored && w->node[i].up && w->node[i].fault == HONEST)
                assert_int_equal(get(w, i, b), CH_STATUS_OK);
}

static void put_some(struct world *w, unsigned count)
{
    for (unsigned b = 0; b < count; b++) {
        unsigned block = new_block(w, below(w, 5) ? CH_CID_RAW : CH_CID_DAG_PB);
        assert_int_equal(put(w, some_honest(w), block), CH_STATUS_OK);
        name(w, block);
    }
}

static void all_up_everything_is_read_everywhere(void **state)
{
    const unsigned wide[] = {2, 3, 4, 7, 33, 40};
    for (unsigned k = 0; k < sizeof wide / sizeof *wide; k++) {
        static struct world w;
        world_open(&w, seed_of(1, k), wide[k]);
        put_some(&w, 6);
        read_all_everywhere(&w);
        for (unsigned i = 0; i < w.n; i++)
            assert_int_equal(stats_of(&w, i).manifests_wrong + stats_of(&w, i).blocks_failed, 0);
        world_close(&w);
    }
}

static void f_validators_gone_writes_and_reads_go_on(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(2, round), sizes[round % SIZES]);
        put_some(&w, 4);
        for (unsigned i = 0; i < w.f; i++)
            stop(&w, some_honest(&w), below(&w, 2));
        put_some(&w, 4);
        read_all_everywhere(&w);
        world_close(&w);
    }
}

static void one_more_gone_than_f_nothing_is_called_stored(void **state)
{
    for (unsigned round = 0; round < SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(3, round), sizes[round]);
        for (unsigned i = 0; i <= w.f; i++)
            stop(&w, some_honest(&w), false);
        unsigned block = new_block(&w, CH_CID_RAW);
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OVERLOADED);
        world_close(&w);
    }
}

static void liars_are_got_past_and_counted(void **state)
{
    const enum fault faults[] = {LIES_SHARDS, LIES_MANIFESTS, WITHHOLDS, SIGNS_WRONG};
    uint64_t seen[FAULTS] = {0};
    for (unsigned round = 0; round < rounds() * 8; round++) {
        static struct world w;
        enum fault fault = faults[round % 4];
        world_open(&w, seed_of(4, round), sizes[round / 4 % SIZES]);
        for (unsigned i = 0; i < w.f; i++)
            w.node[some_honest(&w)].fault = fault;
        put_some(&w, 5);
        read_all_everywhere(&w);
        for (unsigned i = 0; i < w.n; i++)
            seen[fault] += w.node[i].fault == fault ? lies_seen_of(&w, i) : 0;
        for (unsigned i = 0; i < w.n; i++)
            if (w.node[i].fault == HONEST)
                assert_int_equal(lies_seen_of(&w, i), 0);
        world_close(&w);
    }
    assert_true(seen[LIES_SHARDS] > 0);
    assert_true(seen[SIGNS_WRONG] > 0);
}

/* A reader waits for it once, whatever it reads. */
static void silent_validator_is_waited_for_once_by_each_reader(void **state)
{
    unsigned waits = 0;
    for (unsigned round = 0; round < rounds(); round++) {
        static struct world w;
        world_open(&w, seed_of(40, round), sizes[round % SIZES]);
        put_some(&w, 12);
        run_ms(&w, 30000); /* until nothing is on its way any more */
        for (unsigned i = 0; i < w.f; i++)
            w.node[some_honest(&w)].fault = SILENT;
        for (unsigned i = 0; i < w.n; i++) {
            unsigned waited = 0;
            for (unsigned b = 0; b < w.blocks && w.node[i].fault == HONEST; b++) {
                const uint64_t from_ns = w.now_ns;
                assert_int_equal(get(&w, i, b), CH_STATUS_OK);
                waited += w.now_ns - from_ns >= CH_SPREAD_HEDGE_NS;
            }
            assert_in_range(waited, 0, w.f);
            waits += waited;
        }
        world_close(&w);
    }
    assert_true(waits > 0);
}

static void a_coder_that_codes_wrong_gives_no_wrong_bytes(void **state)
{
    uint64_t wrong = 0;
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(5, round), sizes[round % SIZES]);
        unsigned liar = some_honest(&w);
        w.node[liar].fault = CODES_WRONG;
        for (unsigned b = 0; b < 4; b++) {
            unsigned block = new_block(&w, CH_CID_RAW);
            begin_put(&w, liar, block); /* first the liar, then an honest one, the same block */
            run_ms(&w, 300);
            if (b % 2)
                assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        }
        for (unsigned b = 0; b < w.blocks; b++)
            for (unsigned i = 0; i < w.n; i++) {
                if (w.node[i].fault != HONEST)
                    continue;
                enum ch_status status = get(&w, i, b); /* get() checks the bytes */
                if (w.block[b].stored)
                    assert_int_equal(status, CH_STATUS_OK);
            }
        for (unsigned i = 0; i < w.n; i++)
            wrong += stats_of(&w, i).manifests_wrong;
        world_close(&w);
    }
    assert_true(wrong > 0);
}

static void what_nobody_has_is_not_found(void **state)
{
    for (unsigned round = 0; round < SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(6, round), sizes[round]);
        unsigned block = new_block(&w, CH_CID_RAW);
        for (unsigned i = 0; i < w.f; i++)
            stop(&w, some_honest(&w), false);
        assert_int_equal(get(&w, some_honest(&w), block), CH_STATUS_NOT_FOUND);
        world_close(&w);
    }
}

/* The node says that it has nothing left to repair, and it has the certificate and its own part of every block. */
static bool is_whole(struct world *w, unsigned node)
{
    struct ch_spread_stats stats = stats_of(w, node);
    bool whole = stats.repair_left == 0 && stats.repair_waiting == 0;
    for (unsigned b = 0; b < w->blocks && whole; b++) {
        uint8_t name[CH_HASH_BYTES], bytes[CH_STORED_BYTES_MAX];
        struct ch_stored stored;
        size_t length;
        hold_stored_name(&w->block[b].cid, (uint32_t)w->block[b].length, name);
        whole = disk_get(&disks[node], CH_SPREAD_STORED, name, bytes, sizeof bytes, &length, NULL) == CH_OK;
        struct ch_reader r = ch_reader(bytes, length);
        uint64_t put_ms;
        whole = whole && ch_stored_read(&r, w->n, &stored) && hold_mine(w->node[node].spread, &stored, &put_ms);
    }
    return whole;
}

static void await_whole(struct world *w, unsigned node)
{
    uint64_t began_ns = w->now_ns;
    while (!is_whole(w, node)) { /* a certificate that only an erased one had is made anew after a minute and a half */
        step(w);
        assert_true(w->now_ns - began_ns < 240000 * MS);
    }
}

/* f are erased, come back and are whole again; then f others are gone, and everything is read. */
static void erased_validators_become_whole_again(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        bool erased[NODES_MAX] = {false};
        world_open(&w, seed_of(7, round), sizes[round % SIZES]);
        put_some(&w, 4);
        for (unsigned i = 0; i < w.f; i++) {
            unsigned node = some_honest(&w);
            erased[node] = true;
            stop(&w, node, true);
        }
        put_some(&w, 4);
        run_ms(&w, 4000);
        for (unsigned i = 0; i < w.n; i++)
            if (erased[i])
                start(&w, i);
        for (unsigned i = 0; i < w.n; i++)
            if (erased[i]) {
                await_whole(&w, i);
                assert_true(stats_of(&w, i).blocks_restored > 0);
            }
        for (unsigned i = 0, gone = 0; i < w.n && gone < w.f; i++)
            if (!erased[i]) {
                stop(&w, i, true);
                gone++;
            }
        read_all_everywhere(&w);
        world_close(&w);
    }
}

/* What is lost here, though the certificate is there, is found by ch_spread_repair. */
static void a_lost_shard_is_made_again(void **state)
{
    for (unsigned round = 0; round < rounds() * 2; round++) {
        static struct world w;
        world_open(&w, seed_of(8, round), sizes[round % SIZES]);
        put_some(&w, 6);
        run_ms(&w, 5000);
        unsigned node = some_honest(&w), lost = 0;
        struct node *n = &w.node[node];
        for (size_t i = 0; i < n->records; i++)
            if (n->record[i].kind <= CH_SPREAD_SHARD || below(&w, 3) == 0) {
                lost += n->record[i].kind <= CH_SPREAD_SHARD;
                memset(n->record[i].name, 0xff, CH_HASH_BYTES); /* as good as gone */
            }
        ch_spread_repair(n->spread);
        await_whole(&w, node);
        assert_true(!lost || stats_of(&w, node).blocks_restored > 0);
        world_close(&w);
    }
}

/* Everything at once: messages are lost, up to f lie or come and go, power fails; what was called stored is there. */
static void storm_loses_nothing_that_was_called_stored(void **state)
{
    for (unsigned round = 0; round < rounds() * 6; round++) {
        static struct world w;
        unsigned flaky[NODES_MAX], flaky_count = 0, said = 0;
        world_open(&w, seed_of(9, round), sizes[round % SIZES]);
        w.drop_of_1000 = below(&w, 60);
        for (unsigned i = 0; i < w.f; i++)
            if (below(&w, 2))
                w.node[some_honest(&w)].fault = (enum fault)(1 + below(&w, FAULTS - 1));
            else
                flaky[flaky_count++] = some_honest(&w);
        for (unsigned i = 0; i < 24; i++) {
            unsigned one = flaky_count ? flaky[below(&w, flaky_count)] : 0;
            if (flaky_count && w.node[one].fault == HONEST && below(&w, 3) == 0) {
                if (w.node[one].up)
                    stop(&w, one, false);
                else
                    start(&w, one);
            }
            unsigned block = w.blocks && below(&w, 4) == 0 ? (unsigned)below(&w, w.blocks) : new_block(&w, CH_CID_RAW);
            unsigned node = below(&w, 4) ? some_honest(&w) : some_other_up(&w, HONEST);
            said += put(&w, node, block) == CH_STATUS_OK;
            for (unsigned k = 0; k < w.n; k++)
                if (w.node[k].up && w.node[k].fault == CODES_WRONG && below(&w, 2))
                    begin_put(&w, k, block);
            if (w.block[block].stored)
                assert_int_equal(get(&w, some_honest(&w), block), CH_STATUS_OK);
        }
        assert_true(said >= 20);
        read_all_everywhere(&w);
        world_close(&w);
    }
}

static void drop_everywhere(struct world *w, unsigned block)
{
    for (unsigned i = 0; i < w->n; i++)
        if (w->node[i].up) {
            until_taken(w, i, block, ch_spread_close_block);
            until_taken(w, i, block, ch_spread_drop);
        }
}

static bool is_held(struct world *w, unsigned node, unsigned block)
{
    return ch_spread_is_held(&w->node[node].spread->setup.store, w->n, &w->block[block].cid);
}

/* Any of the records of a put, and some after it, find the disk full: either it is not called stored, or it is read. */
static void disk_full_at_any_step_calls_nothing_stored_that_is_not(void **state)
{
    unsigned stored = 0, refused = 0;
    for (unsigned round = 0; round < 40; round++) {
        static struct world w;
        world_open(&w, seed_of(19, round), round % 2 ? 4 : 7);
        unsigned block = new_block(&w, round % 4 ? CH_CID_RAW : CH_CID_DAG_PB), node = some_honest(&w);
        w.refused_from = w.puts + 1 + round % 20;
        w.refused = 1 + (round % 20 ? below(&w, 12) : 0); /* the manifest alone, where it is put; or any */
        bool is = put(&w, node, block) == CH_STATUS_OK;
        stored += is;
        refused += !is;
        for (unsigned i = 0; i < w.f; i++)
            if (w.node[(node + 1 + i) % w.n].up)
                stop(&w, (node + 1 + i) % w.n, true);
        read_all_everywhere(&w);
        run_ms(&w, 5000);
        for (unsigned i = 0; i < w.n; i++)
            if (w.node[i].up) { /* without a manifest nobody would ever drop it */
                until_taken(&w, i, block, ch_spread_close_block);
                assert_true(!records_of(&w, i) || is_held(&w, i, block));
            }
        w.refused = 0; /* there is room again */
        assert_int_equal(put(&w, node, block), CH_STATUS_OK);
        read_all_everywhere(&w);
        world_close(&w);
    }
    assert_true(stored > 0 && refused > 0);
}

/* Power fails where it is put, at any moment: what was answered is read, and what was not can be put at another one. */
static void power_loss_in_the_middle_of_a_put_leaves_no_half_block(void **state)
{
    for (unsigned round = 0; round < rounds() * 10; round++) {
        static struct world w;
        world_open(&w, seed_of(20, round), sizes[round % SIZES]);
        unsigned block = new_block(&w, CH_CID_RAW), node = some_honest(&w), other = (node + 1) % w.n;
        begin_put(&w, node, block);
        run_ms(&w, 5 * below(&w, 20));
        w.block[block].stored = w.done[node][block].is && w.done[node][block].status == CH_STATUS_OK;
        stop(&w, node, false);
        read_all_everywhere(&w);
        if (round % 2)
            start(&w, node);
        assert_int_equal(put(&w, other, block), CH_STATUS_OK);
        name(&w, block);
        if (round % 2 == 0)
            start(&w, node);
        await_whole(&w, node);
        read_all_everywhere(&w);
        world_close(&w);
    }
}

/* Two clients, two validators, the same bytes. */
static void same_block_put_at_two_validators_at_once(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(21, round), sizes[round % SIZES]);
        unsigned block = new_block(&w, round % 3 ? CH_CID_RAW : CH_CID_DAG_PB), one = some_honest(&w);
        unsigned other = (one + 1 + (unsigned)below(&w, w.n - 1)) % w.n;
        begin_put(&w, one, block);
        run_ms(&w, 5 * below(&w, 6));
        begin_put(&w, other, block);
        assert_int_equal(await(&w, one, block), CH_STATUS_OK);
        assert_int_equal(await(&w, other, block), CH_STATUS_OK);
        w.block[block].stored = true;
        run_ms(&w, 5000);
        read_all_everywhere(&w);
        for (unsigned i = 0; i < w.n; i++)
            assert_int_equal(stats_of(&w, i).blocks_failed + lies_seen_of(&w, i), 0);
        drop_everywhere(&w, block);
        run_ms(&w, 100000);
        for (unsigned i = 0; i < w.n; i++)
            assert_int_equal(records_of(&w, i), 0);
        world_close(&w);
    }
}

/* It is dropped while it is read, and while a validator is restoring it: it comes whole, or it is not there. */
static void block_dropped_while_it_is_read_or_restored_comes_whole_or_not(void **state)
{
    unsigned whole = 0, gone = 0;
    for (unsigned round = 0; round < rounds() * 10; round++) {
        static struct world w;
        world_open(&w, seed_of(22, round), sizes[round % SIZES]);
        unsigned block = new_block(&w, CH_CID_RAW), reader = some_honest(&w), erased = (reader + 1) % w.n;
        struct block *b = &w.block[block];
        b->length = 50000;
        b->bytes = realloc(b->bytes, b->length);
        test_random_bytes(&w.random, b->bytes, b->length);
        ch_cid_of(CH_CID_RAW, b->bytes, b->length, &b->cid);
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        name(&w, block);
        run_ms(&w, 4000);
        stop(&w, erased, true);
        start(&w, erased);
        run_ms(&w, 5 * below(&w, 30));
        w.done[reader][block].is = false;
        while (ch_spread_get(w.node[reader].spread, &b->cid, block + 1) == CH_ERR_FULL)
            step(&w);
        run_ms(&w, 5 * below(&w, 12));
        for (unsigned i = 0; i < w.n; i++) /* as their age does: the name too */
            lose(&w.node[i], true);
        enum ch_status status = await(&w, reader, block);
        assert_true(status == CH_STATUS_OK || status == CH_STATUS_NOT_FOUND);
        if (status == CH_STATUS_OK)
            assert_memory_equal(w.done[reader][block].bytes, b->bytes, b->length);
        whole += status == CH_STATUS_OK;
        gone += status != CH_STATUS_OK;
        run_ms(&w, 100000); /* nobody is stuck with it */
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        world_close(&w);
    }
    assert_true(whole > 0 && gone > 0);
}

/* --- names --- */

static void unnamed_block_that_is_dropped_stays_gone(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(10, round), round % 5 == 4 ? 40 : sizes[round % SIZES]);
        for (unsigned b = 0; b < 4; b++) {
            unsigned block = new_block(&w, b % 2 ? CH_CID_RAW : CH_CID_DAG_PB);
            assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        }
        run_ms(&w, 2 * CH_SPREAD_TASK_NS / 1000000); /* no coder is at it any more */
        for (unsigned i = 0; i < w.n; i++) { /* one after the other; who starts goes through all lists anew */
            for (unsigned b = 0; b < 4; b++) {
                until_taken(&w, i, b, ch_spread_close_block);
                until_taken(&w, i, b, ch_spread_drop);
            }
            run_ms(&w, 1000);
            stop(&w, i, false);
            start(&w, i);
            run_ms(&w, w.n < 20 ? 30000 : 2000);
        }
        run_ms(&w, 120000);
        for (unsigned i = 0; i < w.n; i++)
            assert_int_equal(records_of(&w, i), 0);
        for (unsigned b = 0; b < 4; b++)
            assert_int_equal(get(&w, some_honest(&w), b), CH_STATUS_NOT_FOUND);
        world_close(&w);
    }
}

/* Its manifest is found without a certificate after it was closed, and so it is to be spread anew: no longer once it is
 * dropped, be it that this waits for its time or that too few could be reached. Who names it or puts it gets it
 * back. */
static void dropped_block_is_not_spread_anew(void **state)
{
    uint64_t tried = 0;
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        const bool away = round / SIZES % 2;
        world_open(&w, seed_of(41, round), sizes[round % SIZES]);
        unsigned block = new_block(&w, round % 3 ? CH_CID_RAW : CH_CID_DAG_PB);
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        run_ms(&w, 5000);
        unsigned node = some_honest(&w);
        until_taken(&w, node, block, ch_spread_close_block);
        ch_spread_repair(w.node[node].spread);
        run_ms(&w, 5000);
        for (unsigned i = 0; away && i <= w.f; i++)
            stop(&w, (node + 1 + i) % w.n, false);
        run_ms(&w, away ? 40000 + below(&w, 60000) : 1000);
        tried += stats_of(&w, node).blocks_failed;
        until_taken(&w, node, block, ch_spread_drop);
        for (unsigned i = 0; away && i <= w.f; i++)
            start(&w, (node + 1 + i) % w.n);
        run_ms(&w, 60000);
        assert_int_equal(records_of(&w, node), 0);
        assert_int_equal(stats_of(&w, node).repair_waiting, 0);
        read_all_everywhere(&w);
        if (below(&w, 2)) {
            drop_everywhere(&w, block);
            run_ms(&w, 100000);
            for (unsigned i = 0; i < w.n; i++)
                assert_int_equal(records_of(&w, i), 0);
            assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
            run_ms(&w, 5000);
        }
        name(&w, block);
        for (unsigned i = 0; i < w.n; i++)
            await_whole(&w, i);
        world_close(&w);
    }
    assert_true(tried > 0);
}

/* Where a node of a tree was put or asked for it is kept whole, by those too who keep no part of it; that they are
 * closed and started again loses track of none. */
static void closed_block_is_found_and_dropped_after_a_restart(void **state)
{
    const unsigned wide[] = {4, 33, 40};
    for (unsigned round = 0; round < rounds(); round++) {
        static struct world w;
        unsigned outside = 0, found = 0;
        world_open(&w, seed_of(42, round), wide[round % 3]);
        for (unsigned b = 0; b < 4; b++) {
            uint16_t holder[CH_SHARDS_MAX];
            unsigned block = new_block(&w, CH_CID_DAG_PB), node = some_honest(&w);
            struct ch_spread *s = w.node[node].spread;
            unsigned holders = ch_placement(&w.block[block].cid, s->setup.keys, w.n, holder);
            while (w.n > holders && hold_own_index(s, holder, holders) >= 0)
                s = w.node[node = some_honest(&w)].spread;
            outside += hold_own_index(s, holder, holders) < 0;
            if (b < 2) {
                assert_int_equal(put(&w, node, block), CH_STATUS_OK);
                continue;
            }
            assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
            w.done[node][block].is = false;
            while (ch_spread_restore(s, &w.block[block].cid, block + 1) == CH_ERR_FULL)
                step(&w);
            assert_int_equal(await(&w, node, block), CH_STATUS_OK);
        }
        assert_int_equal(outside, w.n > CH_SHARDS_MAX ? 4 : 0);
        run_ms(&w, 10000);
        for (unsigned i = 0; i < w.n; i++) {
            for (unsigned b = 0; b < 4; b++)
                until_taken(&w, i, b, ch_spread_close_block);
            run_ms(&w, 100);
            stop(&w, i, false);
            start(&w, i);
        }
        for (unsigned i = 0; i < w.n; i++)
            for (unsigned b = 0; b < 4; b++)
                if (is_held(&w, i, b)) {
                    until_taken(&w, i, b, ch_spread_drop);
                    found++;
                }
        assert_in_range(found, 4 * (w.n < CH_SHARDS_MAX ? w.n : CH_SHARDS_MAX) + outside, UINT64_MAX);
        run_ms(&w, 100000);
        for (unsigned i = 0; i < w.n; i++)
            assert_int_equal(records_of(&w, i), 0);
        world_close(&w);
    }
}

/* Bytes that are at once a block of their own and a part of another one: who drops the one loses nothing of the
 * other. */
static void dropped_block_takes_nothing_of_another_with_it(void **state)
{
    for (unsigned round = 0; round < SIZES; round++) {
        static struct world w;
        struct ch_manifest m = {0};
        world_open(&w, seed_of(11, round), sizes[round]);
        /* 0: coded; 1: raw, one of its shards; 2: a node; 3: the same bytes, raw */
        for (unsigned b = 0; b < 4; b++) {
            struct block *one = &w.block[w.blocks++], *before = b ? one - 1 : NULL;
            one->length = b == 2 ? 3000 : b == 3 ? before->length : CH_CODED_BYTES_MIN;
            if (b == 1) {
                ch_manifest_shape(&before->cid, CH_CODED_BYTES_MIN, w.n, &m);
                one->length = m.shard_bytes;
            }
            one->bytes = malloc(one->length);
            if (b % 2)
                memcpy(one->bytes, before->bytes, one->length);
            else
                test_random_bytes(&w.random, one->bytes, one->length);
            ch_cid_of(b == 2 ? CH_CID_DAG_PB : CH_CID_RAW, one->bytes, one->length, &one->cid);
        }
        for (unsigned b = 0; b < 4; b++)
            assert_int_equal(put(&w, some_honest(&w), round % 2 ? b : 3 - b), CH_STATUS_OK);
        run_ms(&w, 5000);
        name(&w, 0);
        name(&w, 2);
        drop_everywhere(&w, 1);
        drop_everywhere(&w, 3);
        run_ms(&w, 1000);
        for (unsigned i = 0; i < w.n; i++) {
            assert_int_equal(get(&w, i, 0), CH_STATUS_OK);
            assert_int_equal(get(&w, i, 2), CH_STATUS_OK);
            assert_int_equal(stats_of(&w, i).blocks_restored, 0);
        }
        drop_everywhere(&w, 0);
        drop_everywhere(&w, 2);
        run_ms(&w, 1000);
        for (unsigned b = 0; b < 4; b++)
            assert_int_equal(get(&w, some_honest(&w), b), CH_STATUS_NOT_FOUND);
        world_close(&w);
    }
}

/* Its certificate is dropped everywhere, and then a message names it that was let in before. */
static void closed_block_that_is_named_after_all_gets_a_certificate_anew(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(12, round), sizes[round % SIZES]);
        unsigned block = new_block(&w, CH_CID_RAW);
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        run_ms(&w, 5000);
        for (unsigned i = 0; i < w.n; i++)
            until_taken(&w, i, block, ch_spread_close_block);
        run_ms(&w, 1000);
        for (unsigned i = 0; i < w.n; i++)
            assert_false(ch_spread_is_stored(&w.node[i].spread->setup.store, &w.block[block].cid,
                                             (uint32_t)w.block[block].length));
        name(&w, block);
        for (unsigned i = 0; i < w.n; i++)
            await_whole(&w, i);
        world_close(&w);
    }
}

/* A validator that could not follow a message's tree learns from the others that a block is named; who was gone gets
 * it. */
static void name_is_learnt_from_the_lists_of_others(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(13, round), sizes[round % SIZES]);
        unsigned gone = some_honest(&w), late, block = new_block(&w, CH_CID_RAW);
        stop(&w, gone, true);
        while ((late = some_honest(&w)) == gone)
            ;
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        run_ms(&w, 65000); /* lists that are gone through now don't have it yet */
        w.node[late].up = false;
        name(&w, block);
        w.node[late].up = true;
        const struct ch_spread_store *store = &w.node[late].spread->setup.store;
        assert_false(ch_spread_is_named(store, &w.block[block].cid, (uint32_t)w.block[block].length));
        start(&w, gone);
        run_ms(&w, 65000);
        assert_true(ch_spread_is_named(store, &w.block[block].cid, (uint32_t)w.block[block].length));
        assert_true(ch_spread_is_named(&w.node[gone].spread->setup.store, &w.block[block].cid,
                                       (uint32_t)w.block[block].length));
        await_whole(&w, gone);
        world_close(&w);
    }
}

/* What a node has gone through of lists since its last start, once it has nothing left to do. */
static uint64_t seen_until_whole(struct world *w, unsigned node)
{
    await_whole(w, node);
    return stats_of(w, node).repair_seen;
}

/* A start goes on where repair was, and only an erased disk begins with everything. */
static void repair_goes_on_after_a_restart(void **state)
{
    for (unsigned round = 0; round < rounds(); round++) {
        static struct world w;
        world_open(&w, seed_of(14, round), sizes[round % SIZES]);
        put_some(&w, 30);
        for (unsigned i = 0; i < w.n; i++)
            await_whole(&w, i);
        run_ms(&w, 250000);
        unsigned node = some_honest(&w);
        stop(&w, node, false);
        start(&w, node);
        assert_in_range(seen_until_whole(&w, node), 0, 10);
        stop(&w, node, true);
        start(&w, node);
        assert_in_range(seen_until_whole(&w, node), 30, UINT64_MAX);
        world_close(&w);
    }
}

/* In the middle of it: what was not restored yet is not passed over. */
static void repair_that_is_interrupted_leaves_nothing_out(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(15, round), sizes[round % SIZES]);
        unsigned node = some_honest(&w);
        stop(&w, node, true);
        put_some(&w, 20);
        w.drop_of_1000 = 400; /* slowly */
        start(&w, node);
        for (int i = 0; i < 4; i++) {
            run_ms(&w, 50000 + below(&w, 90000));
            stop(&w, node, false);
            start(&w, node);
        }
        w.drop_of_1000 = 0;
        await_whole(&w, node);
        world_close(&w);
    }
}

/* Too few are there just when a list fills the queue: what was under way has its place in it all the same. */
static void list_that_fills_the_queue_leaves_room_for_what_is_tried_again(void **state)
{
    for (unsigned round = 0; round < 4 * rounds(); round++) {
        static struct world w;
        world_open(&w, seed_of(43, round), 4);
        unsigned node = some_honest(&w);
        stop(&w, node, true);
        put_some(&w, 150);
        w.drop_of_1000 = 100; /* slowly: as much is under way as may be */
        start(&w, node);
        const struct ch_spread *s = w.node[node].spread;
        const uint64_t began_ns = w.now_ns;
        for (unsigned most = 0; most < CH_SPREAD_LIST_MAX / 2 || s->missing_count > CH_SPREAD_LIST_MAX / 2;) {
            step(&w);
            most = s->missing_count > most ? s->missing_count : most;
            assert_true(w.now_ns - began_ns < 240000 * MS);
        }
        for (unsigned i = 1; i <= w.f + 1; i++) /* the list comes from the one that is left */
            stop(&w, (node + i) % w.n, false);
        run_ms(&w, 30000 + below(&w, 60000));
        for (unsigned i = 1; i <= w.f + 1; i++)
            start(&w, (node + i) % w.n);
        w.drop_of_1000 = 0;
        await_whole(&w, node);
        assert_int_equal(stats_of(&w, node).blocks_given_up, 0);
        world_close(&w);
    }
}

/* An older copy of its disk is put back: what it signed for since it restores, and the marks on it are as old as the
 * rest. */
static void older_copy_of_a_disk_becomes_whole(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(23, round), sizes[round % SIZES]);
        put_some(&w, 8);
        run_ms(&w, 1000 + below(&w, 200000));
        unsigned node = some_honest(&w);
        struct node *n = &w.node[node], copy = {.records = n->records, .room = n->records};
        copy.record = calloc(n->records + 1, sizeof *copy.record);
        for (size_t i = 0; i < n->records; i++) {
            copy.record[i] = n->record[i];
            copy.record[i].bytes = malloc(n->record[i].length + 1);
            memcpy(copy.record[i].bytes, n->record[i].bytes, n->record[i].length);
        }
        put_some(&w, 8);
        run_ms(&w, 1000 + below(&w, 200000));
        stop(&w, node, true);
        free(n->record);
        n->record = copy.record;
        n->records = copy.records;
        n->room = copy.room;
        lose(n, false);
        start(&w, node);
        await_whole(&w, node);
        for (unsigned i = 0, gone = 0; i < w.n && gone < w.f; i++)
            if (i != node) {
                stop(&w, i, true);
                gone++;
            }
        read_all_everywhere(&w);
        world_close(&w);
    }
}

/* A node that was up all the time reads the list of one that came back with an empty disk from the first on. */
static void replaced_disk_begins_another_list(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(16, round), sizes[round % SIZES]);
        put_some(&w, 4);
        for (unsigned b = 0; b < 20; b++) /* lists that are long where they are old */
            assert_int_equal(put(&w, some_honest(&w), new_block(&w, CH_CID_RAW)), CH_STATUS_OK);
        run_ms(&w, 2 * CH_SPREAD_TASK_NS / 1000000);
        for (unsigned b = 4; b < 24; b++)
            drop_everywhere(&w, b);
        unsigned block = new_block(&w, CH_CID_RAW), node = some_honest(&w);
        assert_int_equal(put(&w, node, block), CH_STATUS_OK);
        name(&w, block);
        run_ms(&w, 65000);
        w.blocks = 4; /* for await_whole */
        for (unsigned i = 0; i < w.n; i++)
            if (i != node) {
                stop(&w, i, true);
                run_ms(&w, 1000);
                start(&w, i);
                await_whole(&w, i);
            }
        w.blocks = 25;
        block = new_block(&w, CH_CID_RAW);
        w.node[node].up = false;
        assert_int_equal(put(&w, some_honest(&w), block), CH_STATUS_OK);
        name(&w, block);
        run_ms(&w, 1000);
        w.node[node].up = true;
        const struct ch_spread_store *store = &w.node[node].spread->setup.store;
        assert_false(ch_spread_is_named(store, &w.block[block].cid, (uint32_t)w.block[block].length));
        run_ms(&w, 65000);
        assert_true(ch_spread_is_named(store, &w.block[block].cid, (uint32_t)w.block[block].length));
        world_close(&w);
    }
}

/* The status of node 0's answer to a validator that asks for its list from a cursor on; *next where to go on. */
static unsigned list_of(struct world *w, uint16_t from, uint64_t *cursor, bool *end)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    struct ch_frame_header header = {.type = CH_FRAME_LIST_STORED, .request = 77, .length = 8};
    uint16_t to;
    ch_store64(body, *cursor);
    assert_true(ch_spread_frame(w->node[0].spread, from, &header, body));
    while (ch_spread_next_send(w->node[0].spread, &to, &header, body))
        if (header.type == CH_FRAME_STORED_LIST && header.request == 77 && to == from) {
            if (header.length > 2) {
                *cursor = ch_load64(body + 10);
                *end = body[18];
            }
            return ch_load16(body);
        }
    fail();
    return 0;
}

/* One after the other, and forward: another part of the list is another segment's index to read. */
static void list_is_gone_through_by_one_at_a_time(void **state)
{
    static struct world w;
    uint64_t one = 0, other = 0;
    bool end = false;
    world_open(&w, seed_of(18, 0), 7);
    struct ch_spread *s = w.node[0].spread;
    for (unsigned i = 0; i < 70; i++) { /* more than one answer has */
        struct ch_cid cid;
        uint8_t hash[CH_HASH_BYTES] = {(uint8_t)i};
        ch_cid_make(CH_CID_RAW, hash, &cid);
        while (ch_spread_name(s, &cid, 9) != CH_OK)
            step(&w);
    }
    run_ms(&w, 1000);
    s->peer[1].given_cursor = s->peer[1].asked_cursor = UINT64_MAX; /* whatever it has asked for until now */
    s->peer[1].jump_again_ns = 0;
    assert_int_equal(list_of(&w, 1, &one, &end), CH_STATUS_OK);
    assert_false(end);
    assert_int_equal(list_of(&w, 2, &other, &end), CH_STATUS_OVERLOADED);
    assert_int_equal(list_of(&w, 1, &(uint64_t){0}, &end), CH_STATUS_OK); /* the same again */
    uint64_t jump = one - 1;
    assert_int_equal(list_of(&w, 1, &jump, &end), CH_STATUS_OVERLOADED); /* it has just begun anew */
    assert_int_equal(list_of(&w, 1, &one, &end), CH_STATUS_OK);
    assert_true(end);
    assert_int_equal(list_of(&w, 2, &other, &end), CH_STATUS_OK); /* the first one is through */
    assert_int_equal(list_of(&w, 1, &one, &end), CH_STATUS_OVERLOADED);
    ch_spread_tick(s, w.now_ns += 1100 * MS);
    assert_int_equal(list_of(&w, 1, &one, &end), CH_STATUS_OK); /* the other one is silent */
    ch_spread_tick(s, w.now_ns += 9000 * MS);
    assert_int_equal(list_of(&w, 1, &jump, &end), CH_STATUS_OK);
    world_close(&w);
}

/* What was stored long ago and is restored now is old, whatever f liars say, and never older than it is. A certificate
 * that is learnt later is as old as what it is of. */
static void restored_parts_are_as_old_as_the_block(void **state)
{
    for (unsigned round = 0; round < rounds() * SIZES; round++) {
        static struct world w;
        world_open(&w, seed_of(17, round), sizes[round % SIZES]);
        run_ms(&w, 10000);
        put_some(&w, 6);
        uint64_t stored_ms = w.now_ns / MS;
        run_ms(&w, 100000);
        unsigned node = some_honest(&w);
        stop(&w, node, true);
        for (unsigned i = 0, liars = 0; i < w.n && liars < w.f; i++)
            if (i != node) {
                w.node[i].fault = round % 2 ? LIES_AGES : HONEST;
                liars++;
            }
        start(&w, node);
        await_whole(&w, node);
        for (size_t i = 0; i < w.node[node].records; i++)
            if (w.node[node].record[i].kind >= CH_SPREAD_STORED && below(&w, 2))
                memset(w.node[node].record[i].name, 0xff, CH_HASH_BYTES);
        ch_spread_repair(w.node[node].spread);
        await_whole(&w, node);
        for (size_t i = 0; i < w.node[node].records; i++) {
            const struct record *r = &w.node[node].record[i];
            if (r->kind != CH_SPREAD_MARK)
                assert_in_range(r->put_ms, 10000, stored_ms);
        }
        world_close(&w);
    }
}

static int start_crypto(void **state)
{
    return ch_sign_init() == CH_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_up_everything_is_read_everywhere),
        cmocka_unit_test(f_validators_gone_writes_and_reads_go_on),
        cmocka_unit_test(one_more_gone_than_f_nothing_is_called_stored),
        cmocka_unit_test(liars_are_got_past_and_counted),
        cmocka_unit_test(silent_validator_is_waited_for_once_by_each_reader),
        cmocka_unit_test(a_coder_that_codes_wrong_gives_no_wrong_bytes),
        cmocka_unit_test(what_nobody_has_is_not_found),
        cmocka_unit_test(erased_validators_become_whole_again),
        cmocka_unit_test(a_lost_shard_is_made_again),
        cmocka_unit_test(storm_loses_nothing_that_was_called_stored),
        cmocka_unit_test(disk_full_at_any_step_calls_nothing_stored_that_is_not),
        cmocka_unit_test(power_loss_in_the_middle_of_a_put_leaves_no_half_block),
        cmocka_unit_test(same_block_put_at_two_validators_at_once),
        cmocka_unit_test(block_dropped_while_it_is_read_or_restored_comes_whole_or_not),
        cmocka_unit_test(unnamed_block_that_is_dropped_stays_gone),
        cmocka_unit_test(dropped_block_is_not_spread_anew),
        cmocka_unit_test(closed_block_is_found_and_dropped_after_a_restart),
        cmocka_unit_test(dropped_block_takes_nothing_of_another_with_it),
        cmocka_unit_test(closed_block_that_is_named_after_all_gets_a_certificate_anew),
        cmocka_unit_test(name_is_learnt_from_the_lists_of_others),
        cmocka_unit_test(repair_goes_on_after_a_restart),
        cmocka_unit_test(repair_that_is_interrupted_leaves_nothing_out),
        cmocka_unit_test(list_that_fills_the_queue_leaves_room_for_what_is_tried_again),
        cmocka_unit_test(older_copy_of_a_disk_becomes_whole),
        cmocka_unit_test(replaced_disk_begins_another_list),
        cmocka_unit_test(list_is_gone_through_by_one_at_a_time),
        cmocka_unit_test(restored_parts_are_as_old_as_the_block),
    };
    return cmocka_run_group_tests_name("object_sim", tests, start_crypto, NULL);
}
