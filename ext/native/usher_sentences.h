/* The sentences of answers, as templates: the words of broker/verbs/sentences.py and broker/verbs/requests.py.
 *
 * tests/wire holds the two against each other, for every reason and over random numbers. In a template
 *   %p  the product's id              %a  when to ask again
 *   %c  capacity                      %u  seats in use, a number
 *   %U  seats in use, with the word   %b  "is" or "are", for the seats in use
 *   %R  reserved seats, with the word %n  the number of the fault
 *   %s  a session's public id         %e  how it ended
 */
#ifndef USHER_SENTENCES_H
#define USHER_SENTENCES_H

#include <stddef.h>

/* By DenialReason. NO_FREE_SEATS depends on its numbers: see usher_no_free_seats. */
static const char *const usher_denial_sentences[] = {
    "%p was not given (none); %a.",
    NULL,
    "A key of %p is missing: %U %b in use, but the keys present give %c, so nobody new is let in."
    " Plug the key back in, or %a.",
    "The broker has just started and is still proving its keys of %p; %a.",
    "No key that is plugged in gives seats of %p. Plug its key in; if it is, an admin sees with"
    " `usher keys` and `usher licences` what is wrong.",
    "No licence on this broker names the product %p. Check the spelling, or add its licence to the"
    " broker's licence folder.",
    "%p needs another product in the same session; ask for both together.",
    "%p cannot be given back while another product of the session needs it; give that one back first.",
    "This broker keeps no waitlist (%u of %c seats of %p are in use); ask without a wait limit.",
    "No seat of %p became free in the time to wait; %a, or wait longer.",
    "This site's rules do not allow %p to this user, computer or program; ask the admin.",
    "The free seats of %p are reserved for others (%R); %a.",
    "The group already has as many seats of %p as its cap allows; %a.",
    "The free seats of %p are kept for a request that has waited longer; %a.",
    "The licence of %p names its users or computers, and this is not one of them; ask the admin.",
    "The broker is back from an unclean stop and still learns who holds seats of %p; %a.",
};

/* All are taken, the only one is, or too few are free: %f is their number, %F "is" or "are". */
static const char *const usher_no_free_seats[] = {
    "All %c seats of %p are in use; %a, or plug in another key.",
    "The only seat of %p is in use; %a, or plug in another key.",
    "Only %f of the %c seats of %p %F free, and this takes more; %a, or plug in another key.",
};

/* By EndReason. */
static const char *const usher_end_words[] = {
    "is over",
    "was closed by its holder",
    "has expired: it was not renewed in time",
    "was ended by an admin",
    "was superseded by a newer session of the same holder and instance",
    "was asked to give way and has ended",
    "was offered to a waiter that did not take it up",
    "has ended with a product that it needs",
    "is no longer allowed by this site's rules",
    "has ended: its security key is gone",
    "has ended: its licence is over or was withdrawn",
    "has ended with the overdraft that it stood on",
    "has ended with the borrowed period",
};

/* Session not found: an id that is none of ours, one whose end is not known, one whose end is. */
static const char *const usher_not_found[] = {
    "This broker never gave out that session id; open a new session.",
    "Session %s is over or expired; open a new one.",
    "Session %s %e; open a new one.",
};

/* By Bound: its name in ErrorInfo, and what it counts. */
typedef struct { const char *name; const char *sentence; } usher_bound_words;
#define USHER_BOUND(what) \
    "The broker holds as many " what " as it may, so nothing was taken; try again later, or let the admin raise the bound."
static const usher_bound_words usher_bounds[] = {
    {"none", USHER_BOUND("records")},
    {"sessions", USHER_BOUND("open sessions")},
    {"leases", USHER_BOUND("leases")},
    {"charges", USHER_BOUND("charges")},
    {"remembered_requests", USHER_BOUND("remembered requests")},
    {"text", USHER_BOUND("bytes of names")},
    {"leases_of_session",
     "The session has as many leases as a session may have; open another session for more products."},
};

/* A field and what is wrong with it. */
typedef struct { const char *field; const char *sentence; } usher_field_words;

/* By InvalidField; IDENTITY is no field of a message. */
static const usher_field_words usher_invalid_fields[] = {
    {NULL, NULL},
    {"holder.user", "The holder's user must be 1 to 128 bytes."},
    {"holder.host", "The holder's host must be 1 to 128 bytes."},
    {"holder.app", "The holder's app must be at most 64 bytes."},
    {"holder.label", "The holder's label must be at most 64 bytes."},
    {"instance_id", "The instance id must be at most 64 bytes."},
    {NULL, "The name in the client's certificate must be 1 to 128 bytes."},
    {"products", "Ask for 1 to 16 products of 1 to 32 bytes each, none twice and at least one of them required."},
    {"ttl", "The ttl must not be negative."},
    {"priority", "The priority must be 0 to 7."},
};

/* By Fault. Of FAULT_MESSAGE the sentence ends with a message's name. */
static const usher_field_words usher_faults[] = {
    {NULL, NULL},
    {"message", "The message is not a valid broker.v1."},
    {"request_id", "The request_id must be 16 random bytes; these are %n."},
    {"session_id", "A session_id has 32 bytes; this one has %n."},
    {"change_version", "The change_version must be one that the broker gave, or 0."},
    {"product", "A product's id has 1 to 32 bytes."},
    {"ttl", "The ttl must not be negative."},
    {"wait_limit", "The wait_limit must not be negative."},
    {"client_nonce", "The client_nonce has at most 32 bytes; this one has %n."},
    {"machine_identifiers", "At most 8 machine identifiers; these are %n."},
    {"machine_identifiers", "A machine identifier has at most 64 bytes."},
    {"renewals", "At most 256 renewals a message; these are %n."},
    {"forget", "A session_id has 32 bytes; this one has %n."},
};

/* By RequestMessage. */
static const char *const usher_messages[] = {
    NULL, "OpenRequest", "RenewRequest", "AcquireRequest", "ReleaseRequest", "CloseRequest", "KeepAliveRequest",
    "OpenWaitingRequest",
};

static const char usher_reused[] = "This request_id was used for another request; make a fresh one for each new intent.";
static const char usher_events_full[] = "The broker is behind with recording its events; nothing was changed, try again.";
static const char usher_draining[] = "The broker is being drained and lets no new session in; try again later.";
static const char usher_not_writable[] =
    "The broker cannot write to its disk: sessions go on and can be renewed, released and closed, but nothing new is given;"
    " let the admin look at the log of the broker, and try again later.";

#endif
