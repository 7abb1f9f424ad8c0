package nftables

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// HasTable says whether a table, named with its family as "inet shekara", is in the calling thread's network namespace. A kernel without
// nftables has none. Microseconds, where a process of nft(8) takes milliseconds.
func HasTable(table string) (bool, error) {
	family, name, _ := strings.Cut(table, " ")
	for number, known := range families() {
		if known != family {
			continue
		}
		request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, 0)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: number, Version: nl.NFNETLINK_V0})
		request.AddData(nl.NewRtAttr(tableAttribute, nl.ZeroTerminated(name)))
		_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
		// EINVAL: nfnetlink has no such subsystem (nfnetlink_rcv_msg). AF_NETLINK knows no other reason for it here.
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("ask for nftables table %s: %w", table, err)
		}
		return true, nil
	}
	return false, fmt.Errorf("ask for nftables table %q: %w (hint: family and name, as in %q)", table, unix.EAFNOSUPPORT, "inet shekara")
}
