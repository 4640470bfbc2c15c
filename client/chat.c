#include "client/chat.h"

#include "base/time.h"
#include "client/client_impl.h"
#include "crypto/ed25519.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES 65536

/* Completes the fields and signs; returns the length, 0 where a field is missing or too long. */
static size_t sign_tx(struct ch_client *c, const struct ch_sign_key *key, struct ch_tx *tx,
                      uint8_t bytes[CH_TX_BYTES_MAX])
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
    tx->sender = key->public_key;
    tx->timestamp_ms = ch_time_unix_ms();
    ch_random(&tx->salt, sizeof tx->salt);
    size_t length = ch_tx_encode(tx, bytes);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_TX, c->chain_id, prefix);
    if (length)
        ch_sign(key, prefix, prefix_length, bytes + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, bytes);
    return length;
}

static ch_err submit(struct ch_client *c, const uint8_t *bytes, size_t length, struct ch_receipt *receipt)
{
    return length ? ch_client_submit(c, bytes, length, false, receipt)
                  : ch_client_fail(c, CH_ERR_INVALID, "a field is missing or too long");
}

static ch_err transact(struct ch_client *c, const struct ch_sign_key *key, struct ch_tx *tx, struct ch_receipt *receipt)
{
    uint8_t bytes[CH_TX_BYTES_MAX];
    size_t length = sign_tx(c, key, tx, bytes);
    return submit(c, bytes, length, receipt);
}

/* The fields that a registrar signs. */
static struct ch_tx approval_fields(const struct ch_approval *a)
{
    return (struct ch_tx){
        .kind = CH_TX_REGISTER,
        .sender = a->key,
        .seal_key = a->seal_key,
        .registrar = a->registrar,
        .approval = a->signature,
        .approval_expires_ms = a->expires_ms,
        .handle = (const uint8_t *)a->handle,
        .handle_length = (uint8_t)strlen(a->handle),
    };
}

void ch_approve(const struct ch_sign_key *registrar, const uint8_t chain_id[CH_HASH_BYTES], uint64_t expires_ms,
                struct ch_approval *a)
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    memcpy(a->registrar, registrar->public_key, sizeof a->registrar);
    a->expires_ms = expires_ms;
    const struct ch_tx fields = approval_fields(a);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_APPROVE, chain_id, prefix);
    size_t length = ch_tx_approval_message(&fields, message);
    ch_sign(registrar, prefix, prefix_length, message, length, a->signature);
}

bool ch_approval_holds(const uint8_t chain_id[CH_HASH_BYTES], const struct ch_approval *a)
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    const struct ch_tx fields = approval_fields(a);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_APPROVE, chain_id, prefix);
    size_t length = ch_tx_approval_message(&fields, message);
    const struct ch_ed25519_item item = {a->registrar,    a->signature, prefix, message, (uint32_t)prefix_length,
                                         (uint32_t)length};
    return ch_ed25519_verify_reference(&item);
}

ch_err ch_chat_register(struct ch_client *c, const struct ch_account_keys *account, const struct ch_approval *approval,
                        struct ch_receipt *receipt)
{
    struct ch_tx tx = approval_fields(approval);
    return transact(c, &account->sign, &tx, receipt);
}

ch_err ch_chat_rotate(struct ch_client *c, const struct ch_account_keys *account, struct ch_receipt *receipt)
{
    struct ch_tx tx = {.kind = CH_TX_ROTATE_SEAL_KEY, .seal_key = ch_account_seal_key(account)->key.public_key};
    return transact(c, &account->sign, &tx, receipt);
}

ch_err ch_chat_revoke(struct ch_client *c, const struct ch_sign_key *signer, const uint8_t account[CH_KEY_BYTES],
                      struct ch_receipt *receipt)
{
    struct ch_tx tx = {.kind = CH_TX_REVOKE, .peer = account};
    return transact(c, signer, &tx, receipt);
}

ch_err ch_chat_relate(struct ch_client *c, const struct ch_account_keys *account, enum ch_tx_kind kind,
                      const uint8_t peer[CH_KEY_BYTES], struct ch_receipt *receipt)
{
    struct ch_tx tx = {.kind = (uint16_t)kind, .peer = peer};
    return transact(c, &account->sign, &tx, receipt);
}

/* ---- sending ---- */

/* An object on its way: sealer and putter stay open until the message is final, to begin again at another validator. */
struct upload {
    struct ch_client *client;
    const struct ch_outgoing *out;
    bool file; /* else the text */
    struct ch_putter *putter;
    struct ch_sealer *sealer;
    struct ch_cid root;
    uint64_t bytes;
    uint8_t commitment[CH_COMMITMENT_BYTES];
};

static ch_err feed_file(struct upload *up)
{
    const struct ch_outgoing *out = up->out;
    uint8_t *piece = malloc(READ_BYTES);
    uint64_t have = 0;
    ch_err err = piece ? CH_OK : CH_ERR_NO_MEMORY;
    while (err == CH_OK) {
        ssize_t n = pread(out->file, piece, READ_BYTES, (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = ch_client_fail(up->client, CH_ERR_IO, "%s: %s", out->file_name, strerror(errno));
        if (n <= 0)
            break;
        have += (uint64_t)n;
        if (have > out->file_bytes)
            break;
        err = ch_sealer_add(up->sealer, piece, (size_t)n);
    }
    if (err == CH_OK && have != out->file_bytes)
        err = ch_client_fail(up->client, CH_ERR_IO, "%s changed while it was sent", out->file_name);
    free(piece);
    return err;
}

/* All the content, from its first byte on. */
static ch_err feed(struct upload *up)
{
    ch_err err =
        up->file ? feed_file(up) : ch_sealer_add(up->sealer, (const uint8_t *)up->out->text, up->out->text_length);
    if (err == CH_OK)
        err = ch_sealer_end(up->sealer, up->commitment);
    return err == CH_OK ? ch_putter_end(up->putter, &up->root, &up->bytes) : err;
}

/* Goes on until one validator has it all. The same secrets again: nothing but the same bytes passes the putter. */
static ch_err feed_again(struct upload *up, ch_err err)
{
    while (err == CH_ERR_AGAIN) {
        err = ch_putter_again(up->putter);
        if (err == CH_OK)
            err = ch_sealer_again(up->sealer);
        if (err == CH_OK)
            err = feed(up);
    }
    return err;
}

static void upload_close(struct upload *up)
{
    ch_sealer_close(up->sealer);
    ch_putter_close(up->putter);
}

static ch_err upload(struct ch_client *c, const struct ch_account *recipient, const struct ch_envelope *envelope,
                     const struct ch_outgoing *out, struct upload *up)
{
    struct ch_envelope sealed = *envelope;
    *up = (struct upload){.client = c, .out = out, .file = envelope->type == CH_ENVELOPE_FILE};
    sealed.content_length = up->file ? out->file_bytes : out->text_length;
    ch_err err = ch_putter_open(c, ch_seal_object_bytes(envelope->name_length, sealed.content_length), out->progress,
                                out->progress_context, &up->putter);
    if (err == CH_OK)
        err =
            ch_sealer_open(recipient->seal_key, recipient->seal_epoch, &sealed, ch_putter_add, up->putter, &up->sealer);
    if (err == CH_OK)
        err = feed_again(up, feed(up));
    if (err != CH_OK)
        upload_close(up);
    return err;
}

/* Completes, signs and submits the message of an object. A validator that took over from the one with the object knows
 * nothing of it: then it is put there, and the same transaction handed in again. */
static ch_err transact_object(struct upload *up, const struct ch_account_keys *account, struct ch_tx *tx,
                              struct ch_receipt *receipt)
{
    struct ch_client *c = up->client;
    uint8_t bytes[CH_TX_BYTES_MAX];
    tx->location = up->root.bytes;
    tx->object_size = up->bytes;
    size_t length = sign_tx(c, &account->sign, tx, bytes);
    ch_err err = submit(c, bytes, length, receipt);
    while (err == CH_ERR_REFUSED && c->status == CH_STATUS_NO_SUCH_OBJECT) {
        err = feed_again(up, CH_ERR_AGAIN);
        if (err == CH_OK)
            err = submit(c, bytes, length, receipt);
    }
    return err;
}

/* Whether the note beside a file fits, found out before the upload. */
static bool note_fits(const struct ch_outgoing *out, size_t name_length)
{
    return CH_SEAL_INLINE_EXTRA_BYTES + name_length + CH_NOTE_HEADER_BYTES + out->text_length <= CH_INLINE_BYTES_MAX;
}

static ch_err send_file(struct ch_client *c, const struct ch_account_keys *account, const struct ch_account *recipient,
                        const struct ch_outgoing *out, struct ch_tx *tx, struct ch_receipt *receipt)
{
    uint8_t sealed[CH_INLINE_BYTES_MAX], content[CH_INLINE_BYTES_MAX], commitment[CH_COMMITMENT_BYTES];
    struct upload up;
    size_t length, name_length = strlen(out->file_name);
    if (!note_fits(out, name_length))
        return ch_client_fail(c, CH_ERR_FULL, "the text beside the file is too long");
    struct ch_envelope envelope = {
        .written_ms = ch_time_unix_ms(),
        .type = CH_ENVELOPE_FILE,
        .name = (const uint8_t *)out->file_name,
        .name_length = (uint16_t)name_length,
    };
    ch_err err = upload(c, recipient, &envelope, out, &up);
    if (err != CH_OK)
        return err;
    struct ch_writer w = ch_writer(content, sizeof content);
    ch_write(&w, up.commitment, sizeof up.commitment);
    ch_write64(&w, out->file_bytes);
    ch_write(&w, out->text, out->text_length);
    CH_ASSERT(!w.bad);
    envelope.type = CH_ENVELOPE_NOTE;
    envelope.content = content;
    envelope.content_length = w.used;
    err = ch_seal_inline(recipient->seal_key, recipient->seal_epoch, &envelope, sealed, sizeof sealed, &length,
                         commitment);
    if (err == CH_OK) {
        tx->commitment = commitment;
        tx->inline_bytes = sealed;
        tx->inline_length = (uint16_t)length;
        err = transact_object(&up, account, tx, receipt);
    }
    upload_close(&up);
    return err;
}

static ch_err send_text(struct ch_client *c, const struct ch_account_keys *account, const struct ch_account *recipient,
                        const struct ch_outgoing *out, struct ch_tx *tx, struct ch_receipt *receipt)
{
    uint8_t sealed[CH_INLINE_BYTES_MAX], commitment[CH_COMMITMENT_BYTES];
    struct upload up;
    size_t length;
    const struct ch_envelope envelope = {
        .written_ms = ch_time_unix_ms(),
        .type = CH_ENVELOPE_TEXT,
        .content = (const uint8_t *)out->text,
        .content_length = out->text_length,
    };
    ch_err err = ch_seal_inline(recipient->seal_key, recipient->seal_epoch, &envelope, sealed, sizeof sealed, &length,
                                commitment);
    if (err == CH_OK) {
        tx->commitment = commitment;
        tx->inline_bytes = sealed;
        tx->inline_length = (uint16_t)length;
        return transact(c, &account->sign, tx, receipt);
    }
    if (err != CH_ERR_FULL)
        return err;
    err = upload(c, recipient, &envelope, out, &up);
    if (err != CH_OK)
        return err;
    tx->commitment = up.commitment;
    err = transact_object(&up, account, tx, receipt);
    upload_close(&up);
    return err;
}

ch_err ch_chat_send(struct ch_client *c, const struct ch_account_keys *account, const struct ch_account *recipient,
                    const struct ch_outgoing *out, struct ch_receipt *receipt)
{
    struct ch_tx tx = {.kind = CH_TX_MESSAGE, .peer = recipient->key};
    if (!ch_seal_key_strong(recipient->seal_key))
        return ch_client_fail(c, CH_ERR_INVALID, "the recipient's seal key is worth nothing");
    return (out->file >= 0 ? send_file : send_text)(c, account, recipient, out, &tx, receipt);
}

/* ---- receiving ---- */

static bool take_note(const struct ch_envelope *envelope, struct ch_incoming *in)
{
    struct ch_reader r = ch_reader(envelope->content, envelope->content_length);
    ch_read_to(&r, in->object_commitment, CH_COMMITMENT_BYTES);
    in->content_bytes = ch_read64(&r);
    in->name = envelope->name;
    in->name_length = envelope->name_length;
    in->text = r.left ? r.at : NULL;
    in->text_length = r.left;
    return !r.bad;
}

void ch_chat_open(const struct ch_account_keys *account, const struct ch_tx *tx, struct ch_incoming *in)
{
    struct ch_envelope envelope;
    memset(in, 0, sizeof *in);
    in->has_inline = tx->inline_length > 0;
    in->has_object = tx->location != NULL;
    if (in->has_object) {
        memcpy(in->object.bytes, tx->location, CH_CID_BYTES);
        in->object_bytes = tx->object_size;
        memcpy(in->object_commitment, tx->commitment, CH_COMMITMENT_BYTES);
    }
    if (!in->has_inline)
        return;
    in->verdict = ch_open_inline(account->seal, account->seal_count, tx->inline_bytes, tx->inline_length,
                                 tx->commitment, in->plain, &envelope);
    if (in->verdict != CH_SEAL_OK)
        return;
    in->written_ms = envelope.written_ms;
    if (in->has_object) {
        /* The one commitment is over the inline envelope: without a note in it nothing vouches for the object. */
        if (envelope.type != CH_ENVELOPE_NOTE || !take_note(&envelope, in))
            in->verdict = CH_SEAL_BAD_ENVELOPE;
    } else {
        in->text = envelope.content;
        in->text_length = envelope.content_length;
    }
}

/* The opener's sink and the transfer's in one: remembers the error of the one behind. */
struct opening {
    struct ch_opener *opener;
    enum ch_seal_verdict verdict;
    ch_sink sink;
    void *context;
    ch_err sink_err;
};

static ch_err on_plain(void *context, const uint8_t *bytes, size_t length)
{
    struct opening *o = context;
    return o->sink_err = o->sink(o->context, bytes, length);
}

static ch_err on_sealed(void *context, const uint8_t *bytes, size_t length)
{
    struct opening *o = context;
    o->verdict = ch_opener_add(o->opener, bytes, length);
    return o->verdict == CH_SEAL_OK ? CH_OK : CH_ERR_CORRUPT;
}

ch_err ch_chat_fetch(struct ch_client *c, const struct ch_account_keys *account, const struct ch_incoming *message,
                     ch_sink sink, void *context, ch_progress progress, void *progress_context, char *name,
                     uint8_t *type, enum ch_seal_verdict *verdict)
{
    struct opening o = {.sink = sink, .context = context};
    ch_err err = ch_opener_open(account->seal, account->seal_count, on_plain, &o, &o.opener);
    if (err != CH_OK)
        return err;
    err = ch_client_get_object(c, &message->object, message->object_bytes, on_sealed, &o, progress, progress_context);
    if (err == CH_OK) /* which opens the last chunk */
        o.verdict = ch_opener_end(o.opener, message->object_commitment);
    if (o.sink_err != CH_OK)
        err = ch_client_fail(c, o.sink_err, "%s", ch_err_text(o.sink_err));
    else if (o.verdict != CH_SEAL_OK)
        err = CH_OK;
    const struct ch_envelope *envelope = ch_opener_envelope(o.opener);
    if (err == CH_OK && envelope) {
        memcpy(name, envelope->name, envelope->name_length);
        name[envelope->name_length] = 0;
        *type = envelope->type;
    }
    if (err == CH_OK)
        *verdict = o.verdict;
    ch_opener_close(o.opener);
    return err;
}
