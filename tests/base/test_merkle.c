#include "base/merkle.h"
#include "tests/test.h"

/* RFC 6962 section 2.1, straight from its definition. */
static void plain_root(const uint8_t (*leaves)[32], uint64_t n, uint8_t root[32])
{
    if (n == 1) {
        memcpy(root, leaves[0], 32);
        return;
    }
    uint64_t k = 1;
    while (k * 2 < n)
        k *= 2;
    uint8_t l[32], r[32];
    plain_root(leaves, k, l);
    plain_root(leaves + k, n - k, r);
    ch_merkle_node(l, r, root);
}

static bool leads_to(const uint8_t leaf[32], uint64_t index, uint64_t count, const uint8_t (*path)[32], uint32_t length,
                     const uint8_t root[32])
{
    uint8_t got[32];
    return ch_merkle_root_of_path(leaf, index, count, path, length, got) && memcmp(got, root, 32) == 0;
}

static void roots_and_paths_match_definition(void **state)
{
    static uint8_t leaves[130][32], nodes[CH_MERKLE_NODES(130)][32], path[CH_MERKLE_DEPTH_MAX][32];
    for (unsigned i = 0; i < 130; i++)
        ch_merkle_leaf(&i, sizeof i, leaves[i]);
    for (uint64_t n = 1; n <= 130; n++) {
        uint8_t a[32], b[32];
        plain_root((const uint8_t(*)[32])leaves, n, a);
        memcpy(nodes, leaves, n * 32);
        ch_merkle_build(nodes, n, b);
        assert_memory_equal(a, b, 32);
        struct ch_merkle_frontier grown = {.size = 0};
        for (uint64_t i = 0; i < n; i++)
            ch_merkle_append(&grown, leaves[i]);
        ch_merkle_frontier_root(&grown, b);
        assert_memory_equal(a, b, 32);
        for (uint64_t i = 0; i < n; i++) {
            uint32_t length = ch_merkle_path((const uint8_t(*)[32])nodes, n, i, path);
            assert_true(leads_to(leaves[i], i, n, (const uint8_t(*)[32])path, length, a));
            assert_false(leads_to(leaves[i], i + 1, n, (const uint8_t(*)[32])path, length, a));
            assert_false(leads_to(leaves[(i + 1) % 130], i, n, (const uint8_t(*)[32])path, length, a));
            if (length) {
                assert_false(leads_to(leaves[i], i, n, (const uint8_t(*)[32])path, length - 1, a));
                path[length - 1][7] ^= 1;
                assert_false(leads_to(leaves[i], i, n, (const uint8_t(*)[32])path, length, a));
            }
        }
    }
}

static void empty_tree_has_hash_of_nothing(void **state)
{
    struct ch_merkle_frontier tree = {.size = 0};
    uint8_t root[32], nothing[32];
    ch_merkle_frontier_root(&tree, root);
    ch_hash("", 0, nothing);
    assert_memory_equal(root, nothing, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_and_paths_match_definition),
        cmocka_unit_test(empty_tree_has_hash_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
