package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// generationAttribute is NFTA_GEN_ID (linux/netfilter/nf_tables.h), a number in network byte order.
const generationAttribute = 1

// Generation counts the transactions on the nftables of the calling thread's network namespace. Equal answers mean that
// nobody changed any table in between; counters and elements that come and go by themselves do not count.
func Generation() (uint32, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask nftables generation: %w", err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofNfgenmsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("ask nftables generation: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type == generationAttribute && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("ask nftables generation: the kernel's answer holds none")
}
