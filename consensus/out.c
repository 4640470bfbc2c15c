/* Actions of a step: a list that next_out walks, and an arena for messages, both emptied at the next step. What must
 * not be lost (records, deliveries) has its own memory; only messages, which may be lost anyway, use the arena. */
#include "consensus/core_impl.h"

struct ch_core_action *out_push(struct ch_core *core, enum ch_core_action_type type)
{
    if (core->halt && type != CH_ACTION_HALT)
        return &core->after_halt; /* written, never read: nothing leaves a halted machine */
    CH_ASSERT(core->out_tail < core->out_capacity);
    struct ch_core_action *action = &core->out[core->out_tail++];
    memset(action, 0, sizeof *action);
    action->type = type;
    action->peer = CH_CORE_NOBODY;
    return action;
}

uint64_t out_append(struct ch_core *core, enum ch_record_type type, struct ch_bytes head, uint64_t handle,
                    uint32_t payload_length)
{
    if (!core->started) /* replay: it is in the log already */
        return 0;
    struct ch_core_action *action = out_push(core, CH_ACTION_APPEND);
    action->append.lsn = ++core->lsn;
    action->append.type = type;
    action->append.head = head;
    action->append.handle = handle;
    action->append.payload_length = payload_length;
    return core->lsn;
}

uint8_t *out_room(struct ch_core *core, size_t bytes)
{
    if (OUT_ARENA_BYTES - core->arena_used < bytes)
        return NULL;
    uint8_t *room = core->arena + core->arena_used;
    core->arena_used += (bytes + 7) & ~(size_t)7;
    if (core->arena_used > OUT_ARENA_BYTES)
        core->arena_used = OUT_ARENA_BYTES;
    return room;
}

void out_send(struct ch_core *core, uint16_t peer, enum ch_message_type type, enum ch_lane lane, struct ch_bytes body)
{
    if (core->n == 1 || !core->started)
        return;
    if (core->out_tail > core->out_capacity / 2) { /* the other half is for what must not be lost */
        core->counters.sends_dropped++;
        return;
    }
    struct ch_core_action *action = out_push(core, CH_ACTION_SEND);
    action->peer = peer;
    action->send.type = type;
    action->send.lane = lane;
    action->send.body = body;
}

void out_report(struct ch_core *core, uint16_t peer, enum ch_report report)
{
    struct ch_core_action *action = out_push(core, CH_ACTION_REPORT);
    action->peer = peer;
    action->report = report;
}

void core_halt(struct ch_core *core, enum ch_halt reason)
{
    if (core->halt)
        return;
    core->halt = reason;
    out_push(core, CH_ACTION_HALT)->halt = reason;
}

bool ch_core_next_out(struct ch_core *core, struct ch_core_action *out)
{
    if (core->out_head == core->out_tail)
        return false;
    *out = core->out[core->out_head++];
    return true;
}
