// Asks a running API as two Go clients do, which decode with the standard library, and prints what they understood:
//
//	main URL TOKEN ORGANIZATION PROJECT
//
// One JSON object, of which each member is a request. Anything that they would not decode ends the program.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// usage is what Grafana's data source reads of stats_v2.
type usage struct {
	Start     time.Time   `json:"start"`
	End       time.Time   `json:"end"`
	Intervals []time.Time `json:"intervals"`
	Groups    []struct {
		By struct {
			Category string `json:"category"`
			Outcome  string `json:"outcome"`
			Reason   string `json:"reason"`
		} `json:"by"`
		Totals struct {
			Records  int64 `json:"sum(times_seen)"`
			Quantity int64 `json:"sum(quantity)"`
		} `json:"totals"`
		Series struct {
			Records  []int64 `json:"sum(times_seen)"`
			Quantity []int64 `json:"sum(quantity)"`
		} `json:"series"`
	} `json:"groups"`
}

// named is an organization or a project in a list; what we leave out has to stay at its zero.
type named struct {
	ID          string    `json:"id"`
	Slug        string    `json:"slug"`
	Name        string    `json:"name"`
	DateCreated time.Time `json:"dateCreated"`
	Teams       []struct {
		ID string `json:"id"`
	} `json:"teams"`
}

// point is what go-sentry-api reads of a series: time and count, both as floats.
type point [2]float64

// caller is who asks: one header more than the token, and whether each request has a connection of its own.
type caller struct {
	url, token  string
	name, value string
	closes      bool
}

var grafana = caller{name: "User-Agent", value: "grafana-sentry-datasource/2.2.7"}
var library = caller{name: "Content-Type", value: "application/json", closes: true}

func main() {
	base, token, organization, project := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for _, one := range []*caller{&grafana, &library} {
		one.url, one.token = base, token
	}
	ours := "/api/0/organizations/" + organization
	from := time.Date(2020, 3, 21, 21, 0, 0, 0, time.UTC)
	asked := url.Values{}
	asked.Set("start", from.Format("2006-01-02T15:04:05"))
	asked.Set("end", from.Add(24*time.Hour).Format("2006-01-02T15:04:05"))
	asked["category"] = []string{"error", "transaction"}
	asked["field"] = []string{"sum(quantity)"}
	byProject := with(asked, "groupBy", "project")
	series := url.Values{"stat": {"received"}, "since": {"1584824400"}, "until": {"1584907200"}}
	hourly := "?" + with(series, "resolution", "1h").Encode()

	answers := map[string]any{
		"organizations": get[[]named](grafana, "/api/0/organizations/"),
		"projects":      get[[]named](grafana, ours+"/projects/"),
		"usage":         get[usage](grafana, ours+"/stats_v2/?"+asked.Encode()),
		"usage by all": get[usage](grafana, ours+"/stats_v2/?"+
			with(with(asked, "groupBy", "outcome", "reason", "category"), "interval", "6h").Encode()),
		"usage by project": get[usage](grafana, ours+"/stats_v2/?"+byProject.Encode()),
		"usage of filters": get[usage](grafana, ours+"/stats_v2/?"+with(with(with(asked, "project", project),
			"outcome", "accepted", "filtered"), "reason", "none").Encode()),
		"refused":       get[any](grafana, ours+"/stats_v2/?"+with(asked, "interval", "7h").Encode()),
		"organization":  get[named](library, ours+"/"),
		"series":        get[[]point](library, ours+"/stats/"+hourly),
		"project":       get[[]point](library, "/api/0/projects/"+organization+"/pump-station/stats/"+hourly),
		"no resolution": get[[]point](library, ours+"/stats/?"+series.Encode()),
		"invalid":       get[any](library, ours+"/stats/?"+with(series, "resolution", "2h").Encode()),
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}

// with is the values with one more.
func with(values url.Values, name string, more ...string) url.Values {
	all := url.Values{name: more}
	for other, each := range values {
		all[other] = each
	}
	return all
}

// get is what the caller decodes, or the text that it shows of a fault.
func get[T any](who caller, path string) any {
	request, err := http.NewRequest(http.MethodGet, who.url+path, nil)
	if err != nil {
		panic(err)
	}
	request.Header.Set(who.name, who.value)
	request.Header.Set("Authorization", "Bearer "+who.token)
	request.Close = who.closes
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var fault struct {
			Detail string `json:"detail"`
		}
		decode(response.Body, path, &fault)
		return fmt.Sprint(response.Status, ": ", fault.Detail)
	}
	var answer T
	decode(response.Body, path, &answer)
	return answer
}

func decode(body io.Reader, path string, into any) {
	if err := json.NewDecoder(body).Decode(into); err != nil {
		panic(path + ": " + err.Error())
	}
}
