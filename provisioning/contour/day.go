package contour

import (
	"time"
	_ "time/tzdata" // an old database of the host has Almaty at UTC+6, which ended on 1 March 2024
)

// almaty is where the days of documents begin and end.
var almaty = location()

func location() *time.Location {
	l, err := time.LoadLocation("Asia/Almaty")
	if err != nil {
		panic("the time zone database that is part of the program lacks Asia/Almaty: " + err.Error()) // cannot be: see the import
	}
	return l
}

// Day is the date of a moment in Asia/Almaty, as 2026-12-31: days so written compare as text.
func Day(t time.Time) string { return t.In(almaty).Format(time.DateOnly) }

// Today is the date now.
func Today() string { return Day(time.Now()) }
