package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrOutdated says that somebody changed nftables since the generation for which a Batch was made. Nothing was changed.
var ErrOutdated = errors.New("nftables were changed meanwhile")

// MaxBatch is how many elements a Batch takes: its messages go to the kernel at once, and its answers must find room in a socket's buffer.
const MaxBatch = 200

// Batch is a transaction that changes what sets of one table of family inet hold, and rules that differ in a number only. What needs more
// is for nft(8), which takes ten times as long to start as this takes whole.
type Batch struct {
	table    string
	messages []*nl.NetlinkRequest
	elements int
}

// NewBatch is for a table without its family. It is committed only if nobody changed anything since the generation.
func NewBatch(table string, generation uint32) *Batch {
	b := &Batch{table: table}
	b.frame(unix.NFNL_MSG_BATCH_BEGIN).AddData(nl.NewRtAttr(batchGeneration, binary.BigEndian.AppendUint32(nil, generation)))
	return b
}

// batchGeneration is NFNL_BATCH_GENID (linux/netfilter/nfnetlink.h).
const batchGeneration = 1

func (b *Batch) frame(message int) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(message, 0)
	subsystem := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.NFNL_SUBSYS_NFTABLES))
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0, ResId: subsystem})
	b.messages = append(b.messages, request)
	return request
}

func (b *Batch) message(message, flags int) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, flags|unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET, Version: nl.NFNETLINK_V0})
	b.messages = append(b.messages, request)
	return request
}

// Add puts elements into a set, as the kernel holds them: each part of a key in network byte order, but marks, and filled up to four bytes. Those that
// it has already are passed over.
func (b *Batch) Add(set string, keys ...[]byte) {
	b.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, keys)
}

// Delete takes elements out of a set. The transaction fails if one is not there.
func (b *Batch) Delete(set string, keys ...[]byte) {
	b.change(unix.NFT_MSG_DELSETELEM, 0, set, keys)
}

func (b *Batch) change(message, flags int, set string, keys [][]byte) {
	b.elements += len(keys)
	request := b.message(message, flags)
	request.AddData(nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(b.table)))
	request.AddData(nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set)))
	list := nl.NewRtAttr(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_LIST_ELEMENTS, nil)
	for _, key := range keys {
		element := list.AddRtAttr(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, nil)
		element.AddRtAttr(unix.NLA_F_NESTED|unix.NFTA_SET_ELEM_KEY, nil).AddRtAttr(unix.NFTA_DATA_VALUE, key)
	}
	request.AddData(list)
}

// Replace puts a rule in place of the one that it was read as.
func (b *Batch) Replace(r Rule) {
	request := b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_REPLACE)
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(b.table)))
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(r.chain)))
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_HANDLE, r.handle))
	request.AddData(nl.NewRtAttr(unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, r.expressions))
	if len(r.userdata) > 0 {
		request.AddData(nl.NewRtAttr(unix.NFTA_RULE_USERDATA, r.userdata))
	}
}

// unanswered is how long the kernel may take to answer; it does so before it returns from what sends.
const unanswered = 10 * time.Second

// Commit sends the batch, and says by which thread the kernel will tell who made it. An error that is ErrOutdated or a *Refusal says that nothing was
// changed; after any other it is not known.
func (b *Batch) Commit() (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Gettid(), b.commit()
}

func (b *Batch) commit() error {
	if b.elements > MaxBatch {
		return &Refusal{fmt.Errorf("%d elements, more than %d", b.elements, MaxBatch)}
	}
	b.frame(unix.NFNL_MSG_BATCH_END)
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return &Refusal{os.NewSyscallError("socket", err)}
	}
	defer unix.Close(socket)
	timeout := unix.NsecToTimeval(unanswered.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return &Refusal{os.NewSyscallError("setsockopt", err)}
	}
	var sent []byte
	waiting := map[uint32]bool{}
	for _, message := range b.messages {
		if message.Flags&unix.NLM_F_ACK != 0 {
			waiting[message.Seq] = true
		}
		sent = append(sent, message.Serialize()...)
	}
	if err := unix.Sendto(socket, sent, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return &Refusal{os.NewSyscallError("send", err)}
	}
	return answers(socket, waiting)
}

// Refusal is the kernel's reason for which it changed nothing.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return "commit to nftables: " + r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// answers waits for the answer to each message. The first error is why nothing was changed: one error is enough for that.
func answers(socket int, waiting map[uint32]bool) error {
	buffer := make([]byte, 1<<16)
	for len(waiting) > 0 {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("commit to nftables: wait for the answer: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return fmt.Errorf("commit to nftables: answer: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data))); errno {
			case 0:
				delete(waiting, m.Header.Seq)
			case unix.ERESTART: // nf_tables_valid_genid
				return ErrOutdated
			default:
				return &Refusal{errno}
			}
		}
	}
	return nil
}
