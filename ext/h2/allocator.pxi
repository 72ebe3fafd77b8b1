# Counted memory: every byte of a connection, nghttp2's and ours, is asked for here, counted, and refused at the bound.
#
# Each block has a header of 16 bytes that remembers its size, so that counting needs nothing of the C library. A refusal
# is fatal for the connection and for nothing else: nghttp2 reports NGHTTP2_ERR_NOMEM, ours say CAUSE_MEMORY.

cdef enum:
    BLOCK_HEAD_SIZE = 16


cdef void* counted_malloc(size_t size, void* user_data) noexcept nogil:
    cdef Memory* memory = <Memory*>user_data
    cdef uint8_t* block
    if size > memory.size_max or memory.size + size > memory.size_max:
        return NULL
    if memory.crowd.size + size > memory.crowd.size_max and memory.size + size > H2_MEMORY_FAIR_SIZE:
        return NULL
    block = <uint8_t*>malloc(size + BLOCK_HEAD_SIZE)
    if block == NULL:
        return NULL
    (<size_t*>block)[0] = size
    memory.size += size
    memory.crowd.size += size
    memory.count += 1
    return block + BLOCK_HEAD_SIZE


cdef void counted_free(void* address, void* user_data) noexcept nogil:
    cdef Memory* memory = <Memory*>user_data
    cdef uint8_t* block
    if address == NULL:
        return
    block = <uint8_t*>address - BLOCK_HEAD_SIZE
    USHER_ASSERT(memory.count > 0 and memory.size >= (<size_t*>block)[0])
    memory.size -= (<size_t*>block)[0]
    memory.crowd.size -= (<size_t*>block)[0]
    memory.count -= 1
    free(block)


cdef void* counted_calloc(size_t count, size_t size, void* user_data) noexcept nogil:
    cdef void* address
    if size != 0 and count > <size_t>-1 // size:
        return NULL
    address = counted_malloc(count * size, user_data)
    if address != NULL:
        memset(address, 0, count * size)
    return address


cdef void* counted_realloc(void* address, size_t size, void* user_data) noexcept nogil:
    cdef void* fresh
    cdef size_t old
    if address == NULL:
        return counted_malloc(size, user_data)
    old = (<size_t*>(<uint8_t*>address - BLOCK_HEAD_SIZE))[0]
    fresh = counted_malloc(size, user_data)
    if fresh == NULL:
        return NULL
    memcpy(fresh, address, min(old, size))
    counted_free(address, user_data)
    return fresh
