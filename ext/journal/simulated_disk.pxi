# The disk that is none: files in memory that know what a crash would leave of them. Deterministic: one seed, one course.
#
# What a crash keeps. Of the bytes written since a file's last sync: any subset of their sectors (SECTOR_SIZE), in any order, the last
# one perhaps only up to a byte; a growth of the file, or not. Of the names changed since the last sync of names: the first few,
# in order. What was synced is kept. A sector never holds anything but what it held or what was written to it.
#
# A sync that fails has written a subset of what was pending, and forgets the rest: what reads give stays, and the next sync
# says that all is well. That is what Linux does.

cdef inline SimulatedState* state_of(Disk* disk) noexcept nogil:
    return <SimulatedState*>disk.inner


cdef uint64_t chance_next(SimulatedState* s, uint64_t below) noexcept nogil:
    """A number from 0 to below - 1."""
    s.chance += <uint64_t>0x9E3779B97F4A7C15
    return word_mix(s.chance) % below


cdef int64_t gate(SimulatedState* s, int operation) noexcept nogil:
    """Counts the operation and lets it take its time; 0, or -errno if it must fail."""
    cdef Fault* fault = &s.faults[operation]
    s.operations += 1
    s.now += fault.cost_ns
    if s.power_off_at and s.operations > s.power_off_at:
        return -EIO
    if fault.errno_value == 0:
        return 0
    if fault.after:
        fault.after -= 1
        return 0
    cdef int64_t reason = fault.errno_value
    if not fault.is_lasting:
        fault.errno_value = 0
    return -reason


# --- files -----------------------------------------------------------------------------------------------------------------

cdef inline int64_t number_of(const SimulatedState* s, uint32_t slot) noexcept nogil:
    return (<int64_t>s.files[slot].generation << 16) | slot


cdef SimulatedFile* file_of(SimulatedState* s, int64_t number) noexcept nogil:
    """NULL: it was opened before a crash, or is gone."""
    cdef uint32_t slot = <uint32_t>(number & 0xFFFF)
    if number < 0 or slot >= SIMULATED_FILES_MAX or not s.files[slot].is_used or s.files[slot].generation != <uint32_t>(number >> 16):
        return NULL
    return &s.files[slot]


cdef bint file_reserve(SimulatedFile* f, uint64_t size) noexcept nogil:
    """Room for so many bytes in both images; what is new is zero."""
    cdef uint64_t capacity = max(size, min(f.capacity * 2, <uint64_t>SIMULATED_SIZE_MAX))
    cdef uint8_t* grown
    if size <= f.capacity:
        return True
    grown = <uint8_t*>realloc(f.visible, capacity)
    if grown == NULL:
        return False
    f.visible = grown
    memset(grown + f.capacity, 0, capacity - f.capacity)
    grown = <uint8_t*>realloc(f.durable, capacity)
    if grown == NULL:
        return False
    f.durable = grown
    memset(grown + f.capacity, 0, capacity - f.capacity)
    f.capacity = capacity
    return True


cdef bint file_pend(SimulatedFile* f, const uint8_t* data, uint64_t size, uint64_t offset) noexcept nogil:
    cdef uint32_t capacity = f.pending_capacity * 2 + 8
    cdef PendingWrite* grown
    cdef PendingWrite* write
    if f.pending_count == f.pending_capacity:
        grown = <PendingWrite*>realloc(f.pending, capacity * sizeof(PendingWrite))
        if grown == NULL:
            return False
        f.pending = grown
        f.pending_capacity = capacity
    write = &f.pending[f.pending_count]
    write.data = NULL
    write.offset = offset
    write.size = size
    if data != NULL:
        write.data = <uint8_t*>malloc(size)
        if write.data == NULL:
            return False
        memcpy(write.data, data, size)
    f.pending_count += 1
    return True


cdef void file_forget_pending(SimulatedFile* f) noexcept nogil:
    cdef uint32_t i
    for i in range(f.pending_count):
        free(f.pending[i].data)
    f.pending_count = 0


cdef void file_drop(SimulatedFile* f) noexcept nogil:
    file_forget_pending(f)
    free(f.pending)
    free(f.visible)
    free(f.durable)
    f.pending = NULL
    f.visible = f.durable = NULL
    f.visible_size = f.durable_size = f.capacity = 0
    f.pending_capacity = 0
    f.is_used = False
    f.generation += 1


cdef void sector_keep(SimulatedFile* f, const PendingWrite* write, uint64_t start, uint64_t size) noexcept nogil:
    memcpy(f.durable + start, write.data + (start - write.offset), size)
    f.durable_size = max(f.durable_size, start + size)


cdef void write_keep(SimulatedState* s, SimulatedFile* f, const PendingWrite* write, uint64_t keep_of_8) noexcept nogil:
    """Each sector of it with this chance, one of sixteen of the kept only up to a byte."""
    cdef uint64_t at = write.offset
    cdef uint64_t end = write.offset + write.size
    cdef uint64_t size
    if write.data == NULL:
        if chance_next(s, 8) < keep_of_8:
            f.durable_size = max(f.durable_size, write.offset)
        return
    while at < end:
        size = min(end, (at & ~<uint64_t>(SECTOR_SIZE - 1)) + SECTOR_SIZE) - at
        if chance_next(s, 8) < keep_of_8:
            if keep_of_8 < 8 and chance_next(s, 16) == 0:
                sector_keep(f, write, at, chance_next(s, size))
            else:
                sector_keep(f, write, at, size)
        at += size


cdef void file_keep(SimulatedState* s, SimulatedFile* f, uint64_t keep_of_8) noexcept nogil:
    """Some of what is pending reaches the medium, nothing is pending any more."""
    cdef uint32_t i
    for i in range(f.pending_count):
        write_keep(s, f, &f.pending[i], keep_of_8)
    file_forget_pending(f)


# --- names ------------------------------------------------------------------------------------------------------------------

cdef int64_t name_find(const NameTable* table, const char* text) noexcept nogil:
    cdef uint32_t i
    for i in range(table.count):
        if strcmp(table.entries[i].text, text) == 0:
            return i
    return -1


cdef void name_remove(NameTable* table, const char* text) noexcept nogil:
    cdef int64_t at = name_find(table, text)
    if at >= 0:
        table.count -= 1
        table.entries[at] = table.entries[table.count]


cdef void names_change(NameTable* table, const NameChange* change) noexcept nogil:
    cdef int64_t at
    if change.old_text[0]:
        name_remove(table, change.old_text)
    if change.text[0]:
        at = name_find(table, change.text)
        if at < 0:
            at = table.count
            table.count += 1
        strcpy(table.entries[at].text, change.text)
        table.entries[at].file = change.file


cdef void names_keep(SimulatedState* s, uint32_t count) noexcept nogil:
    """The first changes become durable; what no name leads to any more is gone."""
    cdef uint32_t i
    for i in range(count):
        names_change(&s.durable_names, &s.changes[i])
    s.change_count -= count
    memmove(s.changes, s.changes + count, s.change_count * sizeof(NameChange))


cdef void names_sweep(SimulatedState* s) noexcept nogil:
    cdef uint32_t i, slot
    cdef bint is_named
    for slot in range(SIMULATED_FILES_MAX):
        if not s.files[slot].is_used:
            continue
        is_named = False
        for i in range(s.names.count):
            is_named = is_named or s.names.entries[i].file == slot
        for i in range(s.durable_names.count):
            is_named = is_named or s.durable_names.entries[i].file == slot
        for i in range(s.change_count):
            is_named = is_named or s.changes[i].file == slot
        if not is_named:
            file_drop(&s.files[slot])


cdef int64_t names_say(SimulatedState* s, const char* text, const char* old_text, uint32_t slot) noexcept nogil:
    """A change of names, seen at once, durable later."""
    cdef NameChange* change = &s.changes[s.change_count]
    if s.change_count == SIMULATED_FILES_MAX or s.names.count == SIMULATED_FILES_MAX:
        return -ENOSPC
    if strlen(text) >= FILE_NAME_SIZE:
        return -EINVAL
    strcpy(change.text, text)
    strcpy(change.old_text, old_text)
    change.file = slot
    s.change_count += 1
    names_change(&s.names, change)
    return 0


cdef uint64_t space_used(const SimulatedState* s) noexcept nogil:
    cdef uint64_t size = 0
    cdef uint32_t i
    for i in range(s.names.count):
        size += s.files[s.names.entries[i].file].visible_size
    return size


# --- the table -----------------------------------------------------------------------------------------------------------------

cdef int64_t simulated_open(Disk* disk, const char* name, int mode) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_OPEN)
    cdef int64_t at = name_find(&s.names, name)
    cdef uint32_t slot = 0
    if failed:
        return failed
    if mode != OPEN_NEW:
        return number_of(s, s.names.entries[at].file) if at >= 0 else -ENOENT
    while slot < SIMULATED_FILES_MAX and s.files[slot].is_used:
        slot += 1
    if slot == SIMULATED_FILES_MAX:
        return -ENOSPC
    failed = names_say(s, name, "", slot)
    if failed:
        return failed
    s.files[slot].is_used = True
    return number_of(s, slot)


cdef int64_t simulated_close(Disk* disk, int64_t file) noexcept nogil:
    cdef int64_t failed = gate(state_of(disk), OPERATION_CLOSE)
    return failed if failed or file_of(state_of(disk), file) != NULL else -EBADF


cdef int64_t simulated_file_size(Disk* disk, int64_t file) noexcept nogil:
    cdef int64_t failed = gate(state_of(disk), OPERATION_SIZE)
    cdef SimulatedFile* f = file_of(state_of(disk), file)
    if failed or f == NULL:
        return failed if failed else -EBADF
    return <int64_t>f.visible_size


cdef int64_t file_grow(SimulatedState* s, SimulatedFile* f, uint64_t size) noexcept nogil:
    if size <= f.visible_size:
        return 0
    if size > SIMULATED_SIZE_MAX or space_used(s) + size - f.visible_size > s.size_max:
        return -ENOSPC
    if not file_reserve(f, size) or not file_pend(f, NULL, 0, size):
        return -ENOMEM
    f.visible_size = size
    return 0


cdef int64_t simulated_allocate(Disk* disk, int64_t file, uint64_t size) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_ALLOCATE)
    cdef SimulatedFile* f = file_of(s, file)
    if failed or f == NULL:
        return failed if failed else -EBADF
    return file_grow(s, f, size)


cdef int64_t simulated_write(Disk* disk, int64_t file, const uint8_t* data, uint64_t size, uint64_t offset) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_WRITE)
    cdef SimulatedFile* f = file_of(s, file)
    if failed or f == NULL:
        return failed if failed else -EBADF
    if s.writes_short and size > 1 and chance_next(s, 3) == 0:
        size = 1 + chance_next(s, size - 1)
    failed = file_grow(s, f, offset + size)
    if failed:
        return failed
    if not file_pend(f, data, size, offset):
        return -ENOMEM
    memcpy(f.visible + offset, data, size)
    return <int64_t>size


cdef int64_t simulated_read(Disk* disk, int64_t file, uint8_t* target, uint64_t size, uint64_t offset) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_READ)
    cdef SimulatedFile* f = file_of(s, file)
    if failed or f == NULL:
        return failed if failed else -EBADF
    if offset >= f.visible_size:
        return 0
    size = min(size, f.visible_size - offset)
    memcpy(target, f.visible + offset, size)
    return <int64_t>size


cdef int64_t simulated_sync(Disk* disk, int64_t file) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_SYNC)
    cdef SimulatedFile* f = file_of(s, file)
    if f == NULL:
        return failed if failed else -EBADF
    if failed and s.power_off_at and s.operations > s.power_off_at:
        return failed
    file_keep(s, f, chance_next(s, 8) if failed else 8)
    return failed


cdef int64_t simulated_rename(Disk* disk, const char* name, const char* new_name) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_RENAME)
    cdef int64_t at = name_find(&s.names, name)
    if failed or at < 0:
        return failed if failed else -ENOENT
    return names_say(s, new_name, name, s.names.entries[at].file)


cdef int64_t simulated_remove(Disk* disk, const char* name) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_REMOVE)
    cdef int64_t at = name_find(&s.names, name)
    if failed or at < 0:
        return failed if failed else -ENOENT
    return names_say(s, "", name, s.names.entries[at].file)


cdef int64_t simulated_sync_names(Disk* disk) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_SYNC_NAMES)
    if failed == 0:
        names_keep(s, s.change_count)
        names_sweep(s)
    return failed


cdef int64_t simulated_list(Disk* disk, FileName* names, uint32_t count_max) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_LIST)
    cdef uint32_t i
    if failed or s.names.count > count_max:
        return failed if failed else -EOVERFLOW
    for i in range(s.names.count):
        strcpy(names[i].text, s.names.entries[i].text)
    return s.names.count


cdef int64_t simulated_lock(Disk* disk, int64_t* holder) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef int64_t failed = gate(s, OPERATION_LOCK)
    holder[0] = 0
    if failed or s.is_locked:
        return failed if failed else -EAGAIN
    s.is_locked = True
    return 0


cdef int64_t simulated_free_size(Disk* disk) noexcept nogil:
    cdef SimulatedState* s = state_of(disk)
    cdef uint64_t used = space_used(s)
    return <int64_t>(s.size_max - used) if s.size_max > used else 0


cdef int64_t simulated_read_ahead(Disk* disk, const char* name) noexcept nogil:
    return 0


cdef int64_t simulated_clock(Disk* disk) noexcept nogil:
    return state_of(disk).now


# --- crashes --------------------------------------------------------------------------------------------------------------------

cdef void simulated_crash(SimulatedState* s) noexcept nogil:
    """Power is lost and comes back: what was not synced is kept, lost or torn; nobody holds the lock or an open file; no fault is left."""
    cdef SimulatedFile* f
    cdef uint32_t slot
    cdef int i
    names_keep(s, <uint32_t>chance_next(s, s.change_count + 1))
    s.change_count = 0
    memcpy(s.names.entries, s.durable_names.entries, s.durable_names.count * sizeof(SimulatedName))
    s.names.count = s.durable_names.count
    for slot in range(SIMULATED_FILES_MAX):
        f = &s.files[slot]
        if not f.is_used:
            continue
        file_keep(s, f, chance_next(s, 9))
        memcpy(f.visible, f.durable, f.capacity)
        f.visible_size = f.durable_size
        f.generation += 1
    names_sweep(s)
    s.is_locked = False
    s.power_off_at = 0
    for i in range(OPERATION_COUNT):
        s.faults[i].errno_value = 0
