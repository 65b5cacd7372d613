const legible = (text) => globalThis.attnxrLegible?.(text) ?? text
const make = (tag, className = "", text = "") => {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text) node.textContent = text
  return node
}
const MEANINGS = { query: "the token that looks", key: "looked at most", written: "the head often writes it" }

export function render({ model }) {
  const box = make("div", "examples")
  const title = make("h3", "", "Examples")
  const legend = make("p", "legend")
  const said = make("p", "said")
  const list = make("div", "list")
  said.setAttribute("role", "status")
  for (const [mark, words] of [["query", "looks"], ["shaded", "is looked at, the more the darker"], ["key", "is looked at most"], ["written", "is a word that the head often writes"]]) {
    const item = make("span")
    item.append(make("span", `sample ${mark}`, "token"), words)
    legend.append(item)
  }
  box.append(title, legend, said, list)

  const spanOf = ([place, spaced, text, weight, marks]) => {
    const node = make("span", `piece ${marks}`, legible(text))
    if (weight >= 0.005) node.style.setProperty("--weight", weight.toFixed(3))
    node.dataset.place = place
    node.dataset.told = `attention ${weight.toFixed(3)}`
    return spaced ? [" ", node] : [node]
  }
  const itemOf = ({ at, query, group, about, cut, tokens }) => {
    const item = make("article")
    const line = make("p", "about")
    const text = make("p", "text")
    item.dataset.example = at
    line.append(make("b", "", group), " · ", about)
    if (!model.refusal) {
      const button = make("button", "", "Open this text")
      button.type = "button"
      button.ariaLabel = `Open this text on the page of one text: ${group}, ${about}`
      button.dataset.place = query
      line.append(" ", button)
    }
    text.append(cut[0] ? "… " : "", ...tokens.flatMap(spanOf), cut[1] ? " …" : "")
    item.append(line, text)
    return item
  }
  const draw = () => {
    const examples = JSON.parse(model.examples)
    box.hidden = examples.length === 0
    list.replaceChildren(...examples.map(itemOf))
    box.classList.toggle("opens", model.refusal === "")
    say()
  }
  const say = () => {
    said.textContent = model.said || model.refusal
    said.hidden = said.textContent === ""
  }
  // Of hundreds of tokens few are pointed at.
  list.addEventListener("mouseover", (event) => {
    const node = event.target.closest(".piece")
    if (node) node.title = [node.dataset.told, ...Array.from(node.classList, (mark) => MEANINGS[mark])].filter(Boolean).join(", ")
  })
  list.addEventListener("click", (event) => {
    const place = event.target.closest("[data-place]")?.dataset.place
    const example = event.target.closest("article")?.dataset.example
    if (place !== undefined && !model.refusal) model.send_msg({ example: Number(example), position: Number(place) })
  })
  for (const name of ["examples", "refusal"]) model.on(name, draw)
  model.on("said", say)
  draw()
  return box
}
