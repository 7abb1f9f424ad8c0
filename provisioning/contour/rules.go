package contour

import "shekara/provisioning/document"

// The acts, as docs/contours.md names them.
const (
	rules123 = "Rules 123 of 29 March 2018 as amended by Order 307/НҚ of 2 September 2022"
	order653 = "Order 653/НҚ of 16 October 2024, Annex 2"
	order124 = "Order 124 of 28 January 2016 (repealed)"
)

// Rule is one row of the table: one requirement of an act. Exactly the checks that are set are made; a rule without any cannot be
// broken by a document, and Kept says why.
type Rule struct {
	ID        string // requirement, as GWY-05
	Also      string // another requirement that the same check holds
	Act       string
	Paragraph string
	What      string // what is refused, as a problem says it
	Mend      string // the next step
	Waivable  bool   // a Flow's waiver lets it pass
	Kept      string // without any check: why no document can break it

	zone       func(*document.Zone) *breach
	system     func(*Judge, *document.System) *breach
	service    func(*Judge, *document.Service) *breach
	management func(*Judge, string) *breach // the zone that management comes in by
	tunnel     func(*Judge, *Tunnel) *breach
	flow       func(*Judge, *Flow) *breach
}

// breach is where a rule is broken: the field, its value, and what about it.
type breach struct{ path, value, why string }

// Rules are all of them. Waivers are for rules of the repealed Order 124, which agree with the acts in force but allow deviations that are
// justified case by case (its paragraph 5), and for GWY-02, by which the contract is only "taken into account".
var Rules = []Rule{
	{ID: "DEF-19", Act: rules123, Paragraph: "2(19)", What: "LAN with Internet access joined to ETS GO",
		Mend: "take internetAccess away from the LAN in truth and in its Zone, or go through ВШЭП", tunnel: tunnelJoinsInternet, flow: flowJoinsInternet},
	{ID: "DEF-38", Act: order124, Paragraph: "2(17)-(20)", What: "system is of another contour than its zone",
		Mend: "write the contour of the zone, or move the system into a zone of its contour", system: systemOfOtherContour},
	{ID: "GWY-01", Act: rules123, Paragraph: "4, part 1", What: "non-state system reaches a state system not through ВШЭП in industrial operation",
		Mend: "lead the flow to a Gateway of kind vshep that has industrialOperation", flow: nonStatePastGateway},
	{ID: "GWY-02", Act: rules123, Paragraph: "4, part 2", What: "no contract of joint work on information security",
		Mend: "add the contract to either Organisation, or a waiver to the flow", Waivable: true, flow: withoutContract},
	{ID: "GWY-04", Act: rules123, Paragraph: "4, part 4 and 45-1", What: "state system uses a gateway without a service of the register",
		Mend: "write service: and the Service that is published on this gateway", flow: withoutService},
	{ID: "GWY-05", Act: order124, Paragraph: "19(2)", What: "state bodies joined directly inside the internal contour",
		Mend: "lead the flow through ШЭП (a Gateway of kind shep), or add a waiver", Waivable: true, flow: interDepartmental},
	{ID: "GWY-06", Act: order124, Paragraph: "19(3)", What: "exchange inside one body without an approved architecture",
		Mend: "write architecture: into the Organisation, or add a waiver", Waivable: true, flow: withoutArchitecture},
	{ID: "GWY-07", Act: order124, Paragraph: "19(4)", What: "internal and external contour joined directly",
		Mend: "lead the flow through ВШЭП (a Gateway of kind vshep) or a zone of kind screened-subnet, or add a waiver", Waivable: true, flow: internalToExternal},
	{ID: "GWY-08", Act: order124, Paragraph: "19(5)", What: "system of another state reached past the national gateway",
		Mend: "lead the flow to a Gateway of kind national, or add a waiver", Waivable: true, flow: foreignPastNational},
	{ID: "GWY-10", Act: order124, Paragraph: "19(8)", What: "party of the connection is not identified",
		Mend: "name addresses of one System or Gateway, and the Service that it gives", Waivable: true, flow: unidentified},
	{ID: "GWY-16", Act: order124, Paragraph: "20(7)", What: "gateway depends on a connected object",
		Kept: "the form of the filter and the tunnels keeps it: a peer, a tunnel and a flow each have elements of their own, and no document can make one depend on another"},
	{ID: "SEG-01", Act: order124, Paragraph: "2(17)-(20), 5", What: "kind of zone does not fit its contour",
		Mend: "internet, dedicated-segment and partners are external, ets-go is internal, screened-subnet is integration or internal", zone: kindOutsideContour},
	{ID: "SEG-02", Act: order653, Paragraph: "3(3)", What: "system is not placed in its zone",
		Mend: "write addresses inside the zone, or the zone that holds them", system: systemOutsideZone},
	{ID: "SEG-03", Act: order653, Paragraph: "6(14)m", What: "system on the Internet outside a dedicated segment of the external contour",
		Mend: "place it in a zone of kind dedicated-segment", system: internetSystemElsewhere, flow: internetFlowElsewhere},
	{ID: "SEG-04", Act: order653, Paragraph: "6(14)m", What: "dedicated segment joined directly to the internal contour",
		Mend: "lead the flow through ШЭП (a Gateway of kind shep) or a zone of kind screened-subnet", flow: segmentToInternal},
	{ID: "SEG-05", Act: rules123, Paragraph: "2(19)", What: "ETS GO zone with Internet access",
		Mend: "remove internetAccess, or write kind: lan", zone: etsWithInternet},
	{ID: "SEG-06", Act: order653, Paragraph: "6(3)", What: "management from outside or over the Internet",
		Mend: "name a zone of kind management whose hosts do not reach the Internet", management: managementFromOutside},
	{ID: "EXC-01", Act: rules123, Paragraph: "3(1)", What: "service of a certification authority on a gateway",
		Mend: "write gateway: none, and let clients reach it directly", service: serviceOfAuthority},
	{ID: "EXC-02", Act: rules123, Paragraph: "3(2)", What: "state secrets or official use on a gateway",
		Mend: "keep the system away from ШЭП and ВШЭП", service: secretService, flow: secretFlow},
	{ID: "EXC-03", Act: rules123, Paragraph: "3(3)", What: "single data space on a gateway",
		Mend: "keep the system away from ШЭП and ВШЭП", service: dataSpaceService, flow: dataSpaceFlow},
	{ID: "EXC-04", Act: rules123, Paragraph: "3(4)", What: "open data on a gateway",
		Mend: "write gateway: none, and use plain HTTP or HTTPS", service: openDataService},
	{ID: "EXC-05", Act: rules123, Paragraph: "3", What: "exclusion outside ШЭП and ВШЭП",
		Kept: "it bounds the four rules above: they speak of a Service whose gateway is shep or vshep, and of flows to such a Gateway, and of nothing else"},
	{ID: "VPN-05", Act: rules123, Paragraph: "2(32)", What: "AH written as UDP port 51",
		Mend: "AH is IP protocol 51 (RFC 4302, 2): write encapsulation: ah in the Tunnel, and leave udp/51 out", flow: authenticationHeaderAsPort},
	{ID: "VPN-06", Act: order653, Paragraph: "6(14)j", What: "tunnel without encryption to a system with restricted information",
		Mend: "write encapsulation: esp, and proposals that encrypt", tunnel: tunnelInTheClear},
	{ID: "CRY-01", Act: order653, Paragraph: "6(4)", What: "restricted information without a certified cryptographic module",
		Mend: "write cryptoModule: and a CryptoModule whose certificate is valid", tunnel: tunnelWithoutModule},
	{ID: "CRY-02", Also: "VPN-07", Act: order653, Paragraph: "6(4)", What: "security level of the tunnel is too low",
		Mend: "write cryptoModule: and a CryptoModule of that level", tunnel: tunnelLevel},
	{ID: "CRY-04", Act: order653, Paragraph: "2(8)", What: "restricted information leaves without a tunnel",
		Mend: "lead the flow through a tunnel", flow: restrictedInTheClear},
	{ID: "HID-01", Act: order653, Paragraph: "6(14)f", What: "internal addresses shown outside",
		Mend: "write hide: at that end, with addresses of no internal zone, or end the tunnel in a zone of the integration contour", tunnel: internalSelector},
}
