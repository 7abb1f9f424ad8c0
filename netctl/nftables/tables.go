package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of tables and chains (linux/netfilter/nf_tables.h).
const (
	tableName  = 1
	tableFlags = 2
	chainTable = 1
	chainName  = 3
	chainHook  = 4
	flags      = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
)

// Table is one that the kernel's nftables hold.
type Table struct {
	Family string // "ip", "ip6", "inet", "arp", "bridge", "netdev" or its number
	Name   string
	Flags  uint32   // of linux/netfilter/nf_tables.h: 1 is one that is dormant
	Hooked []string // its base chains, sorted
}

// Tables are those of the calling thread's network namespace, in no order. It is for hosts without nft(8), which lists what is in them.
func Tables() ([]Table, error) {
	objects, err := dump(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list nftables' tables: %w", err)
	}
	var tables []Table
	for _, o := range objects {
		t := Table{Family: o.family, Name: nl.BytesToString(o.values[tableName])}
		if value := o.values[tableFlags]; len(value) == 4 {
			t.Flags = binary.BigEndian.Uint32(value)
		}
		tables = append(tables, t)
	}
	chains, err := dump(unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list nftables' chains: %w", err)
	}
	for _, o := range chains {
		for i, t := range tables {
			if o.values[chainHook] != nil && o.family == t.Family && nl.BytesToString(o.values[chainTable]) == t.Name {
				tables[i].Hooked = append(t.Hooked, nl.BytesToString(o.values[chainName]))
			}
		}
	}
	for _, t := range tables {
		slices.Sort(t.Hooked)
	}
	return tables, nil
}

// object is one of nftables' with its attributes by number, without flags.
type object struct {
	family string
	values map[uint16][]byte
}

func dump(message int, family byte, which ...nl.NetlinkRequestData) (out []object, err error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	for _, attribute := range which {
		request.AddData(attribute)
	}
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, err
	}
	families := map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet", unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge",
		unix.NFPROTO_NETDEV: "netdev"}
	for _, answer := range answers {
		if len(answer) < nl.SizeofNfgenmsg {
			continue
		}
		o := object{family: families[answer[0]], values: map[uint16][]byte{}}
		if o.family == "" {
			o.family = fmt.Sprint(answer[0])
		}
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		for _, a := range attributes {
			o.values[a.Attr.Type&^flags] = a.Value
		}
		out = append(out, o)
	}
	return out, nil
}

// Absent says whether an error of Generation and Tables is that of a kernel without nftables (nfnetlink_rcv_msg).
func Absent(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}
