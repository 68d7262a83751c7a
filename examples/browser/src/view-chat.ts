// The chat: lines, form, and what became of a line.
import { Refused } from './chat.js'
import { find, html, setAttrs, setText, show, sync } from './dom.js'
import type { State } from './state.js'
import { errorText } from './trouble.js'
import { count, sentWords, shortId, travelWords } from './words.js'

type Message = State['messages'][number]

export class ChatView {
  #list = find('messages')
  #quiet = find('quiet')
  #note = find('chat-note')
  #input = find<HTMLInputElement>('line')
  #state?: State

  constructor (say: (text: string) => Promise<string[]>) {
    find<HTMLFormElement>('say').addEventListener('submit', event => {
      event.preventDefault()
      void this.#send(say)
    })
    this.#input.addEventListener('input', () => { setText(this.#note, '') })
  }

  draw (s: State): void {
    this.#state = s
    this.#drawList(s.messages)
    setText(this.#quiet, this.#listening(s))
  }

  #drawList (messages: Message[]): void {
    const last = String(messages.at(-1)?.n)
    if (messages.length === 0 || this.#list.lastElementChild?.getAttribute('data-key') === last) {
      return
    }
    // whoever has scrolled back to read is left in peace
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 30
    sync(this.#list, messages, m => String(m.n), m => this.#create(m), () => {})
    show(this.#list, true)
    if (atEnd) {
      this.#list.scrollTop = this.#list.scrollHeight
    }
  }

  async #send (say: (text: string) => Promise<string[]>): Promise<void> {
    try {
      const recipients = await say(this.#input.value)
      this.#input.value = ''
      setText(this.#note, sentWords(recipients, this.#state?.relay.id ?? ''))
    } catch (err) {
      setText(this.#note, err instanceof Refused ? err.message : `Not sent: ${errorText(err)}`)
    }
    this.#input.focus()
  }

  #listening (s: State): string {
    const dropped = s.chat.dropped > 0 ? ` ${count(s.chat.dropped, 'line')} dropped: they came too fast.` : ''
    const who = s.chat.listeners === 0
      ? 'Nobody is known to listen yet.'
      : `${count(s.chat.listeners, 'peer')} ${s.chat.listeners === 1 ? 'listens' : 'listen'}. Each line says which way it came.`
    return who + dropped
  }

  #create (m: Message): HTMLLIElement {
    const own = m.path === 'self'
    const time = m.at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    // written by strangers: as text, in its own direction, never as markup
    const text = html('bdi', { class: 'text' }, m.text)
    const way = own || this.#state === undefined ? '' : travelWords(m, this.#state)
    const li = html('li', { 'data-testid': 'chat-message', 'data-from': m.from, 'data-path': m.path, class: m.path },
      html('span', { class: 'from' }, own ? 'you' : shortId(m.from), html('time', {}, ` ${time}`)), text, html('span', { class: 'way' }, way))
    setAttrs(li, { title: m.from })
    return li
  }
}
