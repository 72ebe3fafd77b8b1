# The Python face of a command: what callers give is copied, checked for size, and left for sealing.
#
# A Batch owns its memory: commands, their texts and names, outcomes, and what varies in length. Nothing of it is shared
# until `Ledger.execute`, so making a batch needs no mutex.

cdef enum:
    TEXT_ROOM = TEXT_SIZE_MAX + ITEMS_MAX * PRODUCT_SIZE_MAX


cdef class Batch:
    """Up to BATCH_MAX commands. Made ready with `add_...`, executed by `Ledger.execute`, then read."""

    cdef Command* commands
    cdef Outcome* outcomes
    cdef Workspace space
    cdef uint8_t* texts
    cdef readonly uint32_t count_max
    cdef uint32_t count
    cdef list names                 # of each command's products, for the answers

    def __cinit__(self, count_max):
        self.count_max = <uint32_t>_checked("count_max", count_max, 1, BATCH_MAX)
        self.commands = <Command*>calloc(self.count_max, sizeof(Command))
        self.outcomes = <Outcome*>calloc(self.count_max, sizeof(Outcome))
        self.texts = <uint8_t*>malloc(self.count_max * TEXT_ROOM)
        self.space.leases = <LeaseOut*>malloc(self.count_max * LEASES_OF_SESSION_MAX * sizeof(LeaseOut))
        self.space.unavailable = <DenialRecord*>malloc(self.count_max * ITEMS_MAX * sizeof(DenialRecord))
        if not (self.commands and self.outcomes and self.texts and self.space.leases and self.space.unavailable):
            raise MemoryError
        self.names = []

    def __dealloc__(self):
        free(self.commands)
        free(self.outcomes)
        free(self.texts)
        free(self.space.leases)
        free(self.space.unavailable)

    def __len__(self):
        return self.count

    def clear(self):
        """Forgets all commands and answers."""
        self.count = 0
        self.space.lease_count = self.space.unavailable_count = 0
        self.names.clear()

    cdef Command* _next(self, Ledger ledger, uint8_t verb, bytes request_id, bytes salt) except NULL:
        cdef Command* command
        if self.count >= self.count_max:
            raise ValueError(f"the batch holds {self.count_max} commands, and no more")
        command = &self.commands[self.count]
        memset(command, 0, sizeof(Command))
        command.verb = verb
        command.text = self.texts + self.count * TEXT_ROOM
        memcpy(command.request_id, PyBytes_AS_STRING(request_id), len(request_id))
        if salt:
            siphash128(ledger.state.secret, <const uint8_t*>PyBytes_AS_STRING(salt), len(salt), command.salt)
        self.count += 1
        return command

    def add_open(
        self, Ledger ledger not None, *, bytes request_id, bytes user, bytes host, products, bytes app=b"",
        bytes label=b"", bytes identity=b"", bytes instance_id=b"", ttl_ns=0, priority=0, bytes salt=b"",
    ):
        """As `Ledger.open`, whose answer comes with `Ledger.execute`."""
        cdef Command* command
        _check_sizes(request_id, salt)
        names = _name_bytes(products)
        command = self._next(ledger, VERB_OPEN, request_id, salt)
        _put_texts(command, <uint8_t*>command.text, (user, host, app, label, instance_id, identity))
        _put_names(command, <uint8_t*>command.text + TEXT_SIZE_MAX, names)
        if not 0 <= ttl_ns <= TTL_MAX_NS:
            command.invalid = command.invalid or INVALID_TTL
            ttl_ns = 0
        if not 0 <= priority < PRIORITY_LEVELS:
            command.invalid = command.invalid or INVALID_PRIORITY
            priority = 0
        command.ttl = ttl_ns
        command.priority = priority
        self.names.append(products)

    def add_renew(self, Ledger ledger not None, bytes session_id, change_version=0):
        """As `Ledger.renew`."""
        cdef Command* command = self._next(ledger, VERB_RENEW, b"", b"")
        _put_session_id(command, session_id)
        command.change_version = min(max(change_version, 0), 2**63)
        self.names.append(())

    cdef _add_in_session(self, Ledger ledger, uint8_t verb, bytes session_id, bytes request_id, products, bytes salt):
        cdef Command* command
        _check_sizes(request_id, salt)
        names = _name_bytes(products)
        command = self._next(ledger, verb, request_id, salt)
        _put_session_id(command, session_id)
        if verb != VERB_CLOSE:
            _put_names(command, <uint8_t*>command.text, names)
        self.names.append(products)

    def add_acquire(self, Ledger ledger not None, bytes session_id, bytes request_id, products, bytes salt=b""):
        """As `Ledger.acquire`."""
        self._add_in_session(ledger, VERB_ACQUIRE, session_id, request_id, products, salt)

    def add_release(self, Ledger ledger not None, bytes session_id, bytes request_id, str product):
        """As `Ledger.release`."""
        self._add_in_session(ledger, VERB_RELEASE, session_id, request_id, ((product, False),), b"")

    def add_close(self, Ledger ledger not None, bytes session_id, bytes request_id):
        """As `Ledger.close`."""
        self._add_in_session(ledger, VERB_CLOSE, session_id, request_id, (), b"")

    def statuses(self):
        """One byte a command: its Status."""
        cdef bytearray result = bytearray(self.count)
        cdef uint32_t i
        for i in range(self.count):
            result[i] = self.outcomes[i].status
        return bytes(result)

    def session_ids(self):
        """32 bytes a command: the session id of each GRANTED, zeros elsewhere."""
        cdef bytearray result = bytearray(self.count * SESSION_ID_SIZE)
        cdef uint8_t* target = result
        cdef uint32_t i
        for i in range(self.count):
            if self.outcomes[i].status == STATUS_GRANTED:
                memcpy(target + i * SESSION_ID_SIZE, self.outcomes[i].session_id, SESSION_ID_SIZE)
        return bytes(result)

    def answer(self, Ledger ledger not None, uint32_t index):
        """The answer to one command, as a value."""
        cdef Outcome* outcome
        cdef uint32_t i
        if index >= self.count:
            raise IndexError(index)
        outcome = &self.outcomes[index]
        status = Status(outcome.status)
        names = self.names[index]
        leases = tuple([
            _lease_view(ledger, &self.space.leases[outcome.first_lease + i]) for i in range(outcome.lease_count)
        ])
        unavailable = tuple([
            _denial_view(&self.space.unavailable[outcome.first_unavailable + i], names)
            for i in range(outcome.unavailable_count)
        ])
        return Answer(
            status=status,
            session_id=outcome.session_id[:SESSION_ID_SIZE] if status is Status.GRANTED else b"",
            fence=outcome.fence,
            ttl_ns=outcome.ttl,
            change_version=outcome.change_version,
            is_replayed=bool(outcome.is_replayed),
            leases=leases,
            unavailable=unavailable,
            denial=_denial_view(&outcome.denial, names) if status is Status.DENIED else None,
            end_reason=EndReason(outcome.end_reason),
            detail=outcome.detail,
        )


cdef _check_sizes(bytes request_id, bytes salt):
    if len(request_id) != REQUEST_ID_SIZE:
        raise ValueError(f"request_id has {len(request_id)} bytes; it needs {REQUEST_ID_SIZE}")
    if len(salt) > SALT_SIZE_MAX:
        raise ValueError(f"salt has {len(salt)} bytes; at most {SALT_SIZE_MAX}")


cdef list _name_bytes(products):
    """(id in UTF-8, is_optional) of each product, kept alive while the command is sealed."""
    return [(name.encode(), bool(is_optional)) for name, is_optional in products]


cdef _put_texts(Command* command, uint8_t* target, tuple parts):
    """Sizes and bytes of the six texts, or the first that breaks its bounds."""
    cdef int bounds[TEXT_PARTS]
    cdef int i
    cdef bytes part
    bounds[:] = [USER_SIZE_MAX, HOST_SIZE_MAX, APP_SIZE_MAX, LABEL_SIZE_MAX, INSTANCE_ID_SIZE_MAX, IDENTITY_SIZE_MAX]
    for i in range(TEXT_PARTS):
        part = parts[i]
        if len(part) > bounds[i] or (i <= TEXT_HOST and not part):
            command.invalid = INVALID_USER + i
            return
        memcpy(target + command.text_size, PyBytes_AS_STRING(part), len(part))
        command.sizes[i] = len(part)
        command.text_size += len(part)


cdef _put_names(Command* command, uint8_t* target, list products):
    """Copies the ids behind each other, or marks that they break their bounds."""
    cdef Names* names = &command.names
    cdef bytes name
    names.count = 0
    if not 1 <= len(products) <= ITEMS_MAX or not all([1 <= len(name) <= PRODUCT_SIZE_MAX for name, _ in products]):
        if command.invalid == INVALID_NONE:
            command.invalid = INVALID_PRODUCTS
        return
    for name, is_optional in products:
        memcpy(target, PyBytes_AS_STRING(name), len(name))
        names.bytes[names.count] = target
        names.sizes[names.count] = len(name)
        command.optional |= is_optional << names.count
        names.count += 1
        target += len(name)


cdef _put_session_id(Command* command, bytes session_id):
    """One of another size stays all zeros, which is never genuine: the MAC of fence 0 is not zero."""
    if len(session_id) == SESSION_ID_SIZE:
        memcpy(command.session_id, PyBytes_AS_STRING(session_id), SESSION_ID_SIZE)


cdef _lease_view(Ledger ledger, const LeaseOut* view):
    return LeaseView(
        product=ledger.product_names[view.product],
        state=LeaseState(view.state),
        end_reason=EndReason(view.end_reason),
        seats=view.seats,
        is_shared=bool(view.is_shared),
        is_emulated=bool(view.is_emulated),
        fence=view.fence,
        pool=view.pool,
        key_grace_ns=view.key_grace,
    )


cdef _denial_view(const DenialRecord* denial, names):
    return DenialView(
        reason=DenialReason(denial.reason),
        product=names[denial.item][0],
        capacity=denial.capacity,
        in_use=denial.in_use,
        reserved=denial.reserved,
        withheld=denial.withheld,
        deficit=denial.deficit,
        waiters=denial.waiters,
        retry_after_ns=denial.retry_after,
    )
