# Sealing: a command is checked, hashed and resolved before the mutex is taken.
#
# All hashes are keyed with the broker's secret and begin with a byte that names their purpose.

cdef enum:
    DOMAIN_SESSION_ID = 1
    DOMAIN_GROUP = 2
    DOMAIN_HOLDER_REQUEST = 3
    DOMAIN_IDENTITY_REQUEST = 4
    DOMAIN_SESSION_REQUEST = 5
    DOMAIN_FINGERPRINT = 6
    DOMAIN_INSTANCE = 7
    DOMAIN_SALT = 8
    TEXT_SIZE_MAX = USER_SIZE_MAX + HOST_SIZE_MAX + APP_SIZE_MAX + LABEL_SIZE_MAX + INSTANCE_ID_SIZE_MAX + IDENTITY_SIZE_MAX


# --- session ids -----------------------------------------------------------------------------------------------------------
# broker 4 ‖ place 4 ‖ fence 8 ‖ MAC 16, big-endian (semantics rule 22). The MAC is over the whole broker id, place and fence.
# The place is the number of the session's record, which a session keeps until its requests are forgotten, over a
# recovery too. So no index by fence is needed: a renew touches one line of memory, and an id of a session that is
# gone finds another fence in its place.

cdef inline void session_mac(State* s, uint64_t fence, uint32_t place, uint64_t* mac) noexcept nogil:
    cdef uint64_t message[3]
    memcpy(&message[0], s.broker_id, 8)
    message[1] = fence
    message[2] = (<uint64_t>DOMAIN_SESSION_ID << 32) | place
    siphash128(s.secret, <const uint8_t*>message, 24, mac)


cdef inline void session_id_make(State* s, uint64_t fence, uint32_t place, uint8_t* target) noexcept nogil:
    cdef uint64_t head
    cdef uint64_t mac[2]
    session_mac(s, fence, place, mac)
    head = byte_swap_64(<uint64_t>place)
    memcpy(target, &head, 8)
    memcpy(target, s.broker_id, 4)
    head = byte_swap_64(fence)
    memcpy(target + 8, &head, 8)
    memcpy(target + 16, mac, 16)


cdef inline uint32_t session_id_place(const uint8_t* session_id) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, session_id, 8)
    return <uint32_t>byte_swap_64(word)


cdef inline uint64_t session_id_check(State* s, const uint8_t* session_id, uint32_t* place) noexcept nogil:
    """The fence of a genuine id, and its place; 0. The MAC is compared in constant time."""
    cdef uint64_t word, fence
    cdef uint64_t given[2]
    cdef uint64_t made[2]
    place[0] = session_id_place(session_id)
    memcpy(&word, session_id + 8, 8)
    fence = byte_swap_64(word)
    memcpy(given, session_id + 16, 16)
    session_mac(s, fence, place[0], made)
    if ((given[0] ^ made[0]) | (given[1] ^ made[1])) == 0 and memcmp(session_id, s.broker_id, 4) == 0:
        return fence
    return 0


# --- products by id ---------------------------------------------------------------------------------------------------
# The table only grows, under the mutex; a product is complete before its cell names it, so looking needs no mutex.

cdef inline uint32_t hash_of_name(const uint8_t* name, uint32_t size) noexcept nogil:
    cdef uint32_t hashed = 2166136261u
    cdef uint32_t i
    for i in range(size):
        hashed = (hashed ^ name[i]) * 16777619u
    return hashed


cdef inline uint32_t product_find(State* s, const uint8_t* name, uint32_t size) noexcept nogil:
    cdef uint32_t cell = hash_of_name(name, size) % (PRODUCTS_MAX * 2)
    cdef Product* product
    while s.product_cells[cell]:
        product = &s.products[s.product_cells[cell] - 1]
        if product.name_size == size and memcmp(product.name, name, size) == 0:
            return s.product_cells[cell] - 1
        cell = (cell + 1) % (PRODUCTS_MAX * 2)
    return NO_PRODUCT


cdef uint32_t product_add(State* s, const uint8_t* name, uint32_t size) noexcept nogil:
    cdef uint32_t cell = hash_of_name(name, size) % (PRODUCTS_MAX * 2)
    cdef uint32_t number = s.product_count
    memcpy(s.products[number].name, name, size)
    s.products[number].name_size = size
    s.products[number].bucket.second = INT64_MIN
    while s.product_cells[cell]:
        cell = (cell + 1) % (PRODUCTS_MAX * 2)
    s.product_count += 1
    s.product_cells[cell] = number + 1
    return number


# --- requests -----------------------------------------------------------------------------------------------------------

cdef struct Digest:                 # what a fingerprint is made of
    uint8_t message[2048]
    uint32_t size


cdef inline void digest_add(Digest* digest, const void* data, uint32_t size) noexcept nogil:
    USHER_ASSERT(digest.size + size <= 2048)
    memcpy(digest.message + digest.size, data, size)
    digest.size += size


cdef inline void digest_byte(Digest* digest, uint8_t value) noexcept nogil:
    digest.message[digest.size] = value
    digest.size += 1


cdef void digest_names(Digest* digest, const Command* command) noexcept nogil:
    cdef const Names* names = &command.names
    cdef uint32_t i
    digest_byte(digest, names.count)
    for i in range(names.count):
        digest_byte(digest, names.sizes[i])
        digest_byte(digest, (command.optional >> i) & 1)
        digest_add(digest, names.bytes[i], names.sizes[i])


cdef void seal_names(State* s, Command* command) noexcept nogil:
    """Resolves the products; INVALID_PRODUCTS for none, the same twice, or only optional ones."""
    cdef const Names* names = &command.names
    cdef uint32_t i, j
    command.item_count = names.count
    for i in range(names.count):
        command.products[i] = product_find(s, names.bytes[i], names.sizes[i])
        for j in range(i):
            if names.sizes[i] == names.sizes[j] and memcmp(names.bytes[i], names.bytes[j], names.sizes[i]) == 0:
                command.invalid = INVALID_PRODUCTS
    if names.count == 0 or command.optional == (1u << names.count) - 1:
        command.invalid = INVALID_PRODUCTS


cdef void seal_lookup(State* s, Command* command) noexcept nogil:
    """The scope of an Open is the identity if there is one, else the holder; of the others the session."""
    cdef Digest digest
    cdef uint32_t identity_size = command.sizes[TEXT_IDENTITY]
    digest.size = 0
    if command.verb != VERB_OPEN:
        digest_byte(&digest, DOMAIN_SESSION_REQUEST)
        digest_add(&digest, &command.fence, 8)
    elif identity_size:
        digest_byte(&digest, DOMAIN_IDENTITY_REQUEST)
        digest_add(&digest, command.text + command.text_size - identity_size, identity_size)
    else:
        digest_byte(&digest, DOMAIN_HOLDER_REQUEST)
        digest_add(&digest, command.sizes, 4)
        digest_add(&digest, command.text, command.text_size - command.sizes[TEXT_INSTANCE])
    digest_add(&digest, command.request_id, REQUEST_ID_SIZE)
    siphash128(s.secret, digest.message, digest.size, command.lookup)


cdef void seal_fingerprint(State* s, Command* command) noexcept nogil:
    """Another body under the same request_id must be told apart."""
    cdef Digest digest
    cdef uint64_t hashed[2]
    digest.size = 0
    digest_byte(&digest, DOMAIN_FINGERPRINT)
    digest_byte(&digest, command.verb)
    if command.verb == VERB_OPEN:
        digest_add(&digest, command.sizes, TEXT_PARTS)
        digest_add(&digest, command.text, command.text_size)
        digest_add(&digest, &command.ttl, 8)
        digest_byte(&digest, command.priority)
    digest_names(&digest, command)
    digest_add(&digest, command.salt, 16)
    siphash128(s.secret, digest.message, digest.size, hashed)
    command.fingerprint = hashed[0]


cdef void seal_instance(State* s, Command* command) noexcept nogil:
    cdef Digest digest
    cdef uint64_t hashed[2]
    digest.size = 0
    digest_byte(&digest, DOMAIN_INSTANCE)
    digest_add(&digest, command.sizes, TEXT_PARTS)
    digest_add(&digest, command.text, command.text_size)
    siphash128(s.secret, digest.message, digest.size, hashed)
    command.instance_hash = <uint32_t>hashed[0] | 1


cdef void seal_open(State* s, Command* command) noexcept nogil:
    cdef int64_t ttl = s.ttl if command.ttl == 0 else min(command.ttl, s.ttl)
    cdef uint8_t found = command.invalid
    command.ttl_ms = <uint32_t>(max(ttl, TTL_MIN_NS) // NS_PER_MS)
    command.invalid = INVALID_NONE
    seal_names(s, command)
    if found and (command.invalid == INVALID_NONE or found < command.invalid):
        command.invalid = found
    if command.invalid:
        return
    seal_lookup(s, command)
    seal_fingerprint(s, command)
    command.instance_hash = 0
    if command.sizes[TEXT_INSTANCE]:
        seal_instance(s, command)


cdef void seal_in_session(State* s, Command* command) noexcept nogil:
    """Acquire, Release, Close: scoped to the session whose secret id the caller holds."""
    if command.verb == VERB_ACQUIRE:
        seal_names(s, command)
    elif command.verb == VERB_RELEASE:
        command.item_count = 1
        command.products[0] = product_find(s, command.names.bytes[0], command.names.sizes[0])
    if command.invalid == INVALID_NONE:
        seal_lookup(s, command)
        seal_fingerprint(s, command)


cdef inline void seal(State* s, Command* command) noexcept nogil:
    """Everything that needs no mutex. The fence is checked first, since memory can be asked for as soon as it is known."""
    if command.verb == VERB_OPEN:
        seal_open(s, command)
        return
    command.fence = session_id_check(s, command.session_id, &command.place)
    if command.verb != VERB_RENEW:
        seal_in_session(s, command)
