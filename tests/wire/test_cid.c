#include "tests/test.h"
#include "wire/cid.h"

/* Byte i of the file whose root CIDs below were made by ipfs-unixfs-importer 17 (cidVersion 1, rawLeaves, fixed chunks,
 * balanced, 1024 links). */
static uint8_t file_byte(uint64_t i)
{
    return (uint8_t)(i * 31 + i / 8192);
}

static const struct {
    uint64_t bytes;
    uint32_t leaf_bytes;
    const char *root;
} roots[] = {
    {0, 1 << 20, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
    {1, 1 << 20, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"},
    {1048575, 1 << 20, "bafkreidntvtsrb5cy5xlztuz42b37tbgyilcpdonts64anformqj7lz2di"},
    {1048576, 1 << 20, "bafkreiayvn3r767kl2k6bsthlgu7stal7fxnve7kxajowwlet6d6m3wi4q"},
    {1048577, 1 << 20, "bafybeibz244qdwlpewe4blzq26junvl6hnsmgx374dqshbgtxol4jqhhzy"},
    {5000000, 1 << 20, "bafybeifq3rcsc5ci5ekqnpjpwe4qo4pmcrjf7nb3k77wyovrsvttbayitm"},
    /* Short leaves make the same trees as large files: one full node, two levels, three levels. */
    {16384, 16, "bafybeigtk3wnbjprwwulgccsk56heb2wswwywegkr5o5v4fdcnxge4wdqq"},
    {16385, 16, "bafybeiagk5me2vfaqvsr4lg3t5m732iuew22hr32lxewymwsf3gsaraiz4"},
    {16777221, 16, "bafybeigy3elklvs4e6z7eaopkseim53qn4lqlnppjlu6pl3xszvdsipjmy"},
};

struct nodes {
    unsigned count;
    uint8_t last[CH_UNIXFS_NODE_BYTES_MAX];
    size_t last_length;
};

static ch_err keep_node(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct nodes *nodes = context;
    assert_true(ch_cid_matches(cid, block, length));
    assert_int_equal(ch_cid_codec(cid), CH_CID_DAG_PB);
    nodes->count++;
    nodes->last_length = length;
    memcpy(nodes->last, block, length);
    return CH_OK;
}

static void build(uint64_t bytes, uint32_t leaf_bytes, struct nodes *nodes, struct ch_unixfs_link *root)
{
    static uint8_t leaf[1 << 20];
    struct ch_unixfs_builder *builder;
    assert_ok(ch_unixfs_open(keep_node, nodes, &builder));
    uint64_t at = 0;
    do {
        uint32_t length = bytes - at < leaf_bytes ? (uint32_t)(bytes - at) : leaf_bytes;
        struct ch_cid cid;
        for (uint32_t i = 0; i < length; i++)
            leaf[i] = file_byte(at + i);
        ch_cid_of(CH_CID_RAW, leaf, length, &cid);
        assert_ok(ch_unixfs_add(builder, &cid, length));
        at += length;
    } while (at < bytes);
    assert_ok(ch_unixfs_end(builder, root));
    ch_unixfs_close(builder);
}

static void roots_equal_those_of_the_ipfs_importer(void **state)
{
    static struct nodes nodes;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        struct ch_unixfs_link root;
        char text[CH_CID_TEXT_BYTES];
        build(roots[i].bytes, roots[i].leaf_bytes, &nodes, &root);
        ch_cid_to_text(&root.cid, text);
        assert_string_equal(text, roots[i].root);
        assert_int_equal(root.file_bytes, roots[i].bytes);
    }
}

static void text_and_binary_are_one_to_one(void **state)
{
    struct ch_cid cid, back;
    char text[CH_CID_TEXT_BYTES + 1];
    ch_cid_of(CH_CID_RAW, "hello world", 11, &cid);
    ch_cid_to_text(&cid, text);
    assert_string_equal(text, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    assert_true(ch_cid_from_text(text, &back));
    assert_memory_equal(&back, &cid, sizeof cid);

    memset(&back, 0xee, sizeof back);
    struct ch_cid untouched = back;
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) { /* every cut and every foreign letter */
        char bad[CH_CID_TEXT_BYTES + 1];
        memcpy(bad, text, length + 1);
        bad[i] = i % 2 ? 'B' : '1';
        assert_false(ch_cid_from_text(bad, &back));
        memcpy(bad, text, i);
        bad[i] = 0;
        assert_false(ch_cid_from_text(bad, &back));
    }
    strcat(text, "a");
    assert_false(ch_cid_from_text(text, &back));
    text[length] = 0;
    text[length - 1]++; /* the last letter has two bits to spare, which must be zero */
    assert_false(ch_cid_from_text(text, &back));
    assert_memory_equal(&back, &untouched, sizeof back);
}

static void cid_of_another_kind_is_not_valid(void **state)
{
    struct ch_cid cid;
    ch_cid_of(CH_CID_DAG_PB, "x", 1, &cid);
    assert_true(ch_cid_valid(cid.bytes));
    for (int i = 0; i < 4; i++) {
        struct ch_cid other = cid;
        other.bytes[i] ^= 1;
        assert_false(ch_cid_valid(other.bytes));
    }
    assert_false(ch_cid_matches(&cid, "y", 1));
}

static void node_decodes_to_its_links(void **state)
{
    static struct nodes nodes;
    static struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    struct ch_unixfs_link root, again;
    static uint8_t encoded[CH_UNIXFS_NODE_BYTES_MAX];
    build(16384, 16, &nodes, &root);
    assert_int_equal(ch_unixfs_decode(nodes.last, nodes.last_length, links), 1024);
    assert_int_equal(ch_unixfs_encode(links, 1024, encoded, &again), nodes.last_length);
    assert_memory_equal(encoded, nodes.last, nodes.last_length);
    assert_memory_equal(&again.cid, &root.cid, sizeof root.cid);
    assert_int_equal(again.tree_bytes, root.tree_bytes);
}

#define WALK_NODES 8

struct kept_nodes {
    unsigned count;
    struct ch_cid cid[WALK_NODES];
    size_t length[WALK_NODES];
    uint8_t bytes[WALK_NODES][CH_UNIXFS_NODE_BYTES_MAX];
};

static ch_err keep_all(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct kept_nodes *kept = context;
    assert_true(kept->count < WALK_NODES);
    kept->cid[kept->count] = *cid;
    kept->length[kept->count] = length;
    memcpy(kept->bytes[kept->count++], block, length);
    return CH_OK;
}

static void leaf_cid(unsigned i, struct ch_cid *cid)
{
    ch_cid_of(CH_CID_RAW, &i, sizeof i, cid);
}

/* A tree over so many leaves of 4 bytes. */
static void build_leaves(unsigned leaves, struct kept_nodes *kept, struct ch_unixfs_link *root)
{
    struct ch_unixfs_builder *builder;
    struct ch_cid cid;
    kept->count = 0;
    assert_ok(ch_unixfs_open(keep_all, kept, &builder));
    for (unsigned i = 0; i < leaves; i++) {
        leaf_cid(i, &cid);
        assert_ok(ch_unixfs_add(builder, &cid, 4));
    }
    assert_ok(ch_unixfs_end(builder, root));
    ch_unixfs_close(builder);
}

static bool enter(struct ch_unixfs_walk *walk, const struct kept_nodes *kept, const struct ch_unixfs_link *link)
{
    for (unsigned i = 0; i < kept->count; i++)
        if (memcmp(&kept->cid[i], &link->cid, sizeof link->cid) == 0)
            return ch_unixfs_walk_enter(walk, link, kept->bytes[i], kept->length[i]);
    return false;
}

static void walk_is_depth_first_and_complete(void **state)
{
    static struct kept_nodes kept;
    static struct ch_unixfs_walk walk;
    struct ch_unixfs_link root, link;
    struct ch_cid expected;
    build_leaves(2500, &kept, &root); /* 1024, 1024, 452 */
    assert_int_equal(kept.count, 4);
    ch_unixfs_walk_begin(&walk, &root.cid, root.file_bytes);
    for (unsigned place = 0, leaf = 0; place < 2504; place++) {
        assert_true(ch_unixfs_walk_next(&walk, &link));
        bool node = place == 0 || place == 1 || place == 1026 || place == 2051;
        assert_int_equal(ch_cid_codec(&link.cid), node ? CH_CID_DAG_PB : CH_CID_RAW);
        if (node) {
            assert_true(enter(&walk, &kept, &link));
            continue;
        }
        leaf_cid(leaf++, &expected);
        assert_memory_equal(&link.cid, &expected, sizeof expected);
    }
    assert_false(ch_unixfs_walk_next(&walk, &link));
    assert_false(ch_unixfs_walk_next(&walk, &link));
}

static void walk_refuses_what_is_not_the_tree(void **state)
{
    static struct kept_nodes kept;
    static struct ch_unixfs_walk walk;
    struct ch_unixfs_link root, link;
    build_leaves(2500, &kept, &root);
    ch_unixfs_walk_begin(&walk, &root.cid, root.file_bytes - 1); /* of another length */
    assert_true(ch_unixfs_walk_next(&walk, &link));
    assert_false(enter(&walk, &kept, &link));
    ch_unixfs_walk_begin(&walk, &root.cid, UINT64_MAX); /* a length that isn't known */
    assert_true(ch_unixfs_walk_next(&walk, &link));
    assert_true(enter(&walk, &kept, &link));
    assert_true(ch_unixfs_walk_next(&walk, &link));
    assert_false(ch_unixfs_walk_enter(&walk, &link, (const uint8_t *)"no node", 7));
    struct ch_unixfs_link self = {.file_bytes = 4}, down = {.file_bytes = 4, .tree_bytes = 4}; /* a chain of nodes */
    static uint8_t node[CH_UNIXFS_NODE_BYTES_MAX];
    leaf_cid(0, &down.cid);
    size_t length = ch_unixfs_encode(&down, 1, node, &self);
    ch_unixfs_walk_begin(&walk, &self.cid, 4);
    for (unsigned depth = 0; depth < CH_UNIXFS_DEPTH_MAX; depth++)
        assert_true(ch_unixfs_walk_enter(&walk, &self, node, length));
    assert_false(ch_unixfs_walk_enter(&walk, &self, node, length));
}

/* What decodes is what encode writes: whatever a flipped bit or a cut leaves is refused or is another node's own form.
 */
static void changed_node_is_refused_or_canonical(void **state)
{
    static struct nodes nodes;
    static struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    static uint8_t changed[CH_UNIXFS_NODE_BYTES_MAX], encoded[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link root, self;
    build(1000, 300, &nodes, &root);
    for (size_t bit = 0; bit < nodes.last_length * 8; bit++) {
        memcpy(changed, nodes.last, nodes.last_length);
        changed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        size_t count = ch_unixfs_decode(changed, nodes.last_length, links);
        if (count) {
            assert_int_equal(ch_unixfs_encode(links, count, encoded, &self), nodes.last_length);
            assert_memory_equal(encoded, changed, nodes.last_length);
        }
    }
    for (size_t length = 0; length < nodes.last_length; length++) {
        uint8_t *exact = malloc(length ? length : 1); /* so that a sanitizer sees a read beyond it */
        memcpy(exact, nodes.last, length);
        assert_int_equal(ch_unixfs_decode(exact, length, links), 0);
        free(exact);
    }
}

static void block_is_checked_only_when_the_bytes_are_the_cids(void **state)
{
    static const uint8_t bytes[3] = "abc", others[3] = "abd";
    struct ch_cid cid, no_cid;
    struct ch_cid_block block = {0};
    uint8_t digest[CH_HASH_BYTES];
    ch_cid_of(CH_CID_DAG_PB, bytes, sizeof bytes, &cid);
    assert_false(ch_cid_is_checked(&block));
    assert_true(ch_cid_check(&cid, bytes, sizeof bytes, &block));
    assert_true(ch_cid_is_checked(&block));
    assert_memory_equal(&block.cid, &cid, sizeof cid);
    assert_ptr_equal(block.bytes, bytes);
    assert_int_equal(block.length, sizeof bytes);
    assert_false(ch_cid_check(&cid, others, sizeof others, &block)); /* and takes the mark from what was checked before */
    assert_false(ch_cid_is_checked(&block));
    ch_hash(bytes, sizeof bytes, digest);
    assert_true(ch_cid_check_digest(&cid, digest, bytes, sizeof bytes, &block));
    no_cid = cid;
    no_cid.bytes[1] = 7;
    assert_false(ch_cid_check_digest(&no_cid, digest, bytes, sizeof bytes, &block));
    digest[31] ^= 1;
    assert_false(ch_cid_check_digest(&cid, digest, bytes, sizeof bytes, &block));
    assert_false(ch_cid_is_checked(&block));
}

static void random_bytes_never_decode(void **state)
{
    static struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    struct ch_prng g;
    uint8_t bytes[200];
    ch_prng_seed(&g, test_seed());
    for (int i = 0; i < 100000; i++) {
        size_t length = ch_prng_below(&g, sizeof bytes);
        test_random_bytes(&g, bytes, length);
        if (length)
            bytes[0] = 0x12;
        assert_int_equal(ch_unixfs_decode(bytes, length, links), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_equal_those_of_the_ipfs_importer), cmocka_unit_test(text_and_binary_are_one_to_one),
        cmocka_unit_test(cid_of_another_kind_is_not_valid),       cmocka_unit_test(node_decodes_to_its_links),
        cmocka_unit_test(walk_is_depth_first_and_complete),       cmocka_unit_test(walk_refuses_what_is_not_the_tree),
        cmocka_unit_test(changed_node_is_refused_or_canonical),   cmocka_unit_test(random_bytes_never_decode),
        cmocka_unit_test(block_is_checked_only_when_the_bytes_are_the_cids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
