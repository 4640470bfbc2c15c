/* client/chat.h - the verbs of a chat, each one transaction on the chain: register, bind, send, and so on.
 *
 * What:    builds, signs and submits transactions; seals and uploads what is sent; opens and checks what came.
 * Thread, errors: client/chappe.h. A receipt is that of the final commit, as the node tells it over the channel.
 */
#ifndef CHAPPE_CLIENT_CHAT_H
#define CHAPPE_CLIENT_CHAT_H

#include "client/account.h"
#include "client/object.h"

/* ---- registration ---- */

/* What an applicant asks a registrar for, and what the registrar adds. */
struct ch_approval {
    uint8_t key[CH_KEY_BYTES], seal_key[CH_KEY_BYTES];
    char handle[CH_HANDLE_BYTES_MAX + 1];
    uint8_t registrar[CH_KEY_BYTES];
    uint64_t expires_ms; /* Unix time */
    uint8_t signature[CH_SIGNATURE_BYTES];
};

/* Fills registrar, expires and signature of an application. The review comes before (client/review.h). */
void ch_approve(const struct ch_sign_key *registrar, const uint8_t chain_id[CH_HASH_BYTES], uint64_t expires_ms,
                struct ch_approval *approval);
/* Whether the signature holds; the chain also wants the registrar in its genesis and the time not passed. */
CH_MUST_CHECK bool ch_approval_holds(const uint8_t chain_id[CH_HASH_BYTES], const struct ch_approval *approval);

CH_MUST_CHECK ch_err ch_chat_register(struct ch_client *client, const struct ch_account_keys *account,
                                      const struct ch_approval *approval, struct ch_receipt *receipt);
/* Puts the account's newest seal key (client/account.h) on the chain. */
CH_MUST_CHECK ch_err ch_chat_rotate(struct ch_client *client, const struct ch_account_keys *account,
                                    struct ch_receipt *receipt);
/* Ends an account for ever: one's own, or, with the registrar's key, one that he approved. */
CH_MUST_CHECK ch_err ch_chat_revoke(struct ch_client *client, const struct ch_sign_key *signer,
                                    const uint8_t account[CH_KEY_BYTES], struct ch_receipt *receipt);

/* ---- relations ---- */

/* kind: CH_TX_BIND_REQUEST, _ACCEPT, _REFUSE, CH_TX_UNBIND_REQUEST, _CONFIRM. */
CH_MUST_CHECK ch_err ch_chat_relate(struct ch_client *client, const struct ch_account_keys *account,
                                    enum ch_tx_kind kind, const uint8_t peer[CH_KEY_BYTES], struct ch_receipt *receipt);

/* ---- messages ---- */

/* What is sent: a text, or a file with an optional text beside it. */
struct ch_outgoing {
    const char *text; /* UTF-8; may be NULL with a file */
    size_t text_length;
    int file;              /* a descriptor to read from, -1: none */
    const char *file_name; /* that the recipient sees; no folder in it */
    uint64_t file_bytes;   /* must be what can be read: CH_ERR_IO else */
    ch_progress progress;  /* of the upload, may be NULL */
    void *progress_context;
};

/* Seals to the recipient's certificate, uploads what doesn't fit the transaction, submits. A text that fits goes inside
 * the transaction; a longer one becomes an object; a file is an object with a note in the transaction.
 * CH_ERR_FULL: the text beside a file doesn't fit (about 800 bytes with the file's name). */
CH_MUST_CHECK ch_err ch_chat_send(struct ch_client *client, const struct ch_account_keys *account,
                                  const struct ch_account *recipient, const struct ch_outgoing *outgoing,
                                  struct ch_receipt *receipt);

/* What came, as far as the transaction tells. Pointers go into `plain`. */
struct ch_incoming {
    enum ch_seal_verdict verdict; /* of the inline part; CH_SEAL_OK too where there is none */
    bool has_inline, has_object;
    uint64_t written_ms;
    const uint8_t *text; /* NULL: none */
    size_t text_length;
    const uint8_t *name; /* the object's, NULL: not told */
    size_t name_length;
    uint64_t content_bytes; /* of the object; 0: not told */
    struct ch_cid object;   /* where has_object */
    uint64_t object_bytes;  /* of its ciphertext */
    uint8_t object_commitment[CH_COMMITMENT_BYTES];
    uint8_t plain[CH_INLINE_BYTES_MAX];
};
void ch_chat_open(const struct ch_account_keys *account, const struct ch_tx *message, struct ch_incoming *out);

/* Gets, opens and checks the object of a message whose verdict was OK; `sink` gets the content. Keep it apart until
 * *verdict is CH_SEAL_OK: only then is all of it there, and what the sender signed. CH_OK: see *verdict; *name holds
 * the name (CH_ENVELOPE_NAME_BYTES_MAX + 1 bytes, zero-terminated). Other errors are the transfer's or the sink's. */
CH_MUST_CHECK ch_err ch_chat_fetch(struct ch_client *client, const struct ch_account_keys *account,
                                   const struct ch_incoming *message, ch_sink sink, void *context, ch_progress progress,
                                   void *progress_context, char *name, uint8_t *type, enum ch_seal_verdict *verdict);

#endif
