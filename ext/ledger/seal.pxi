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


# --- session ids: broker 8 ‖ fence 8, big-endian ‖ MAC 16 (semantics rule 22) -------------------------------------------

cdef inline void fence_to_bytes(uint64_t fence, uint8_t* target) noexcept nogil:
    cdef int i
    for i in range(8):
        target[i] = (fence >> (56 - 8 * i)) & 0xff


cdef inline uint64_t fence_from_bytes(const uint8_t* source) noexcept nogil:
    cdef uint64_t fence = 0
    cdef int i
    for i in range(8):
        fence = (fence << 8) | source[i]
    return fence


cdef inline void session_id_make(State* s, uint64_t fence, uint8_t* target) noexcept nogil:
    cdef uint8_t message[17]
    cdef uint64_t mac[2]
    message[0] = DOMAIN_SESSION_ID
    memcpy(message + 1, s.broker_id, 8)
    fence_to_bytes(fence, message + 9)
    siphash128(s.secret, message, 17, mac)
    memcpy(target, message + 1, 16)
    memcpy(target + 16, mac, 16)


cdef inline uint64_t session_id_check(State* s, const uint8_t* session_id) noexcept nogil:
    """The fence of a genuine id; 0. The MAC is compared in constant time."""
    cdef uint8_t genuine[SESSION_ID_SIZE]
    cdef uint64_t fence = fence_from_bytes(session_id + 8)
    cdef uint64_t given[4]
    cdef uint64_t made[4]
    session_id_make(s, fence, genuine)
    memcpy(given, session_id, 32)
    memcpy(made, genuine, 32)
    if ((given[0] ^ made[0]) | (given[1] ^ made[1]) | (given[2] ^ made[2]) | (given[3] ^ made[3])) == 0:
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

cdef struct Names:                  # the products of a request as they came
    uint32_t count
    const uint8_t* bytes[ITEMS_MAX]
    uint8_t sizes[ITEMS_MAX]

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


cdef void digest_names(Digest* digest, const Command* command, const Names* names) noexcept nogil:
    cdef uint32_t i
    digest_byte(digest, names.count)
    for i in range(names.count):
        digest_byte(digest, names.sizes[i])
        digest_byte(digest, (command.optional >> i) & 1)
        digest_add(digest, names.bytes[i], names.sizes[i])


cdef void seal_names(State* s, Command* command, const Names* names) noexcept nogil:
    """Resolves the products; INVALID_PRODUCTS for none, the same twice, or only optional ones."""
    cdef uint32_t i, j
    command.item_count = names.count
    for i in range(names.count):
        command.products[i] = product_find(s, names.bytes[i], names.sizes[i])
        for j in range(i):
            if names.sizes[i] == names.sizes[j] and memcmp(names.bytes[i], names.bytes[j], names.sizes[i]) == 0:
                command.invalid = INVALID_PRODUCTS
    if names.count == 0 or command.optional == (1u << names.count) - 1:
        command.invalid = INVALID_PRODUCTS


cdef void seal_lookup(State* s, Command* command, const uint8_t* request_id) noexcept nogil:
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
    digest_add(&digest, request_id, REQUEST_ID_SIZE)
    siphash128(s.secret, digest.message, digest.size, command.lookup)


cdef void seal_open(State* s, Command* command, const Names* names, const uint8_t* request_id, int64_t ttl, const uint8_t* salt, uint32_t salt_size) noexcept nogil:
    """The texts, sizes, priority, optional bits and any earlier invalid field are set; the rest is set here."""
    cdef Digest digest
    cdef uint64_t hashed[2]
    cdef int64_t ttl_used = s.ttl if ttl == 0 else min(ttl, s.ttl)
    cdef uint8_t found = command.invalid
    command.verb = VERB_OPEN
    command.invalid = INVALID_NONE
    command.ttl_ms = <uint32_t>(max(ttl_used, TTL_MIN_NS) // NS_PER_MS)
    if names.count:
        seal_names(s, command, names)
    if found and (command.invalid == INVALID_NONE or found < command.invalid):
        command.invalid = found
    if command.invalid:
        return
    seal_lookup(s, command, request_id)
    digest.size = 0
    digest_byte(&digest, DOMAIN_FINGERPRINT)
    digest_byte(&digest, VERB_OPEN)
    digest_add(&digest, command.sizes, TEXT_PARTS)
    digest_add(&digest, command.text, command.text_size)
    digest_names(&digest, command, names)
    digest_add(&digest, &ttl, 8)
    digest_byte(&digest, command.priority)
    siphash128(s.secret, salt, salt_size, hashed)
    digest_add(&digest, hashed, 16)
    siphash128(s.secret, digest.message, digest.size, hashed)
    command.fingerprint = hashed[0]
    command.instance_hash = 0
    if command.sizes[TEXT_INSTANCE]:
        digest.message[0] = DOMAIN_INSTANCE
        siphash128(s.secret, digest.message, 2 + TEXT_PARTS + command.text_size, hashed)
        command.instance_hash = <uint32_t>hashed[0] | 1


cdef void seal_in_session(State* s, Command* command, uint8_t verb, const uint8_t* session_id, const uint8_t* request_id, const Names* names, const uint8_t* salt, uint32_t salt_size) noexcept nogil:
    """Acquire, Release, Close: scoped to the session whose secret id the caller holds."""
    cdef Digest digest
    cdef uint64_t hashed[2]
    command.verb = verb
    command.fence = session_id_check(s, session_id)
    if verb == VERB_ACQUIRE:
        if command.invalid == INVALID_NONE:
            seal_names(s, command, names)
    elif verb == VERB_RELEASE:
        command.item_count = 1
        command.products[0] = product_find(s, names.bytes[0], names.sizes[0])
    if command.invalid:
        return
    seal_lookup(s, command, request_id)
    digest.size = 0
    digest_byte(&digest, DOMAIN_FINGERPRINT)
    digest_byte(&digest, verb)
    digest_names(&digest, command, names)
    siphash128(s.secret, salt, salt_size, hashed)
    digest_add(&digest, hashed, 16)
    siphash128(s.secret, digest.message, digest.size, hashed)
    command.fingerprint = hashed[0]
