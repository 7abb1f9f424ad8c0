package document

import "cmp"

// TimeService is of whom one Site learns the time, and to whom it gives it (TIM-01, TIM-02).
type TimeService struct {
	Site           string       `yaml:"site" doc:"name of the Site; it has one TimeService at most"`
	Engine         string       `yaml:"engine,omitempty" doc:"who asks the sources and serves: own (shekarad time; whatever keeps the host's clock goes on doing so) or chrony (chronyd, which then keeps the clock too; [time](time.md) says what it cannot)" default:"own"`
	Sources        []TimeSource `yaml:"sources,omitempty" doc:"servers that are asked the time, at least as many as must agree; those outside the tunnels come first, since a tunnel may need the time itself"`
	Agreeing       int          `yaml:"agreeing,omitempty" doc:"so many sources must agree, 1 to 16, or the clock counts as not synchronised; with 1 and 2 one source that lies is not found out" default:"3"`
	MaxDistance    string       `yaml:"maxDistance,omitempty" doc:"root distance (half the delay to the source of all, and every error on the way) above which the clock counts as not synchronised, as 100ms; 1ms to 16s" default:"100ms"`
	WarnOffset     string       `yaml:"warnOffset,omitempty" doc:"from this distance of the clock from its sources on, either way, there is a warning, as 10ms; 1ms to 16s" default:"10ms"`
	Unsynchronised string       `yaml:"unsynchronised,omitempty" doc:"what clients get while the clock is not synchronised: answer (that it is not: leap 3, stratum 16) or withhold (nothing)" default:"answer"`
	Addresses      []string     `yaml:"addresses,omitempty" doc:"the appliance's own addresses at which it serves, listed on an interface of the Site; none: it serves nobody and only watches its clock"`
	Zones          []string     `yaml:"zones,omitempty" doc:"the zones whose registered Systems are served, in tunnels' far ends or on the appliance's interfaces; nobody else is. Not of kind internet or management"`
	Clients        []TimeClient `yaml:"clients,omitempty" doc:"Systems of these zones that must authenticate"`
	KeyFile        string       `yaml:"keyFile,omitempty" doc:"file on the appliance with symmetric keys, as ntp.keys(5) has them: 1 AES128CMAC HEX:...; none but shekara-time may read it"`
	NTS            *TimeNTS     `yaml:"nts,omitempty" doc:"serve Network Time Security (RFC 8915) too"`
}

// MustAgree is how many sources must agree: of three, one that lies is found out (TIM-01).
func (t *TimeService) MustAgree() int { return cmp.Or(t.Agreeing, 3) }

// TimeSource is a server that is asked.
type TimeSource struct {
	Address    string `yaml:"address" doc:"with port: 192.0.2.123:123, [2001:db8::123]:123 or time.example.org:123; with nts that of key establishment, 4460"`
	NTS        bool   `yaml:"nts,omitempty" doc:"it is authenticated by NTS"`
	CA         string `yaml:"ca,omitempty" doc:"with nts: file of certificates (PEM) of whom its own may be from" default:"those of the host"`
	ServerName string `yaml:"serverName,omitempty" doc:"with nts: the name in its certificate" default:"the host of address"`
	Key        int    `yaml:"key,omitempty" doc:"number of the key of keyFile by which it is authenticated, 1 to 4294967295" default:"none"`
}

// TimeClient is how a System must authenticate.
type TimeClient struct {
	System string `yaml:"system" doc:"name of the System"`
	Key    int    `yaml:"key,omitempty" doc:"number of the key of keyFile, 1 to 4294967295" default:"none"`
	NTS    bool   `yaml:"nts,omitempty" doc:"by NTS"`
}

// TimeNTS names files on the appliance, which are read anew when they change.
type TimeNTS struct {
	Certificate string `yaml:"certificate" doc:"file with the appliance's certificate (PEM), and those between it and its root"`
	Key         string `yaml:"key" doc:"file with its private key (PEM), which none but shekara-time may read"`
}

func timeReference() (about string, e example) {
	return "Of whom an appliance learns the time, and to whom it gives it ([time](time.md)). `shekarad time` does both. Who is served needs no Flow on this appliance, since registered Systems of the zones are; " +
			"on an appliance at the other end of a tunnel a Flow lets them out, with udp/123 to one of addresses, and tcp/4460 with nts. The same Flow is allowed here, where it adds nothing.",
		example{"owner-time", &TimeService{Site: "owner", Sources: []TimeSource{{Address: "time.example.org:4460", NTS: true}, {Address: "192.0.2.123:123", Key: 1}, {Address: "198.51.100.123:123"}},
			Addresses: []string{"10.20.0.1"}, Zones: []string{"agencies", "gateway-dmz"}, KeyFile: "/etc/shekara/time/keys",
			NTS: &TimeNTS{Certificate: "/etc/shekara/time/owner.pem", Key: "/etc/shekara/time/owner.key"}}}
}
