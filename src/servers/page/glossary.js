// The words of the page and the formula, in one place: the glossary page and the hover texts.
import { element } from './format.js';

export const TERMS = {
  'stable window': 'The long averaging span (window, 60 s by default). Its mean is what normal decisions go by.',
  'panic window': 'The short averaging span, a share of the stable one (6 s by default), never shorter than what the source can resolve.',
  'panic mode': 'Entered when the panic window asks for at least twice (panic-threshold) the ready pods. While it lasts the highest demand is held and nothing is lowered.',
  'target': 'The load that one pod should carry: target value × target utilization. Demand is divided by it.',
  'desired': 'ceil(mean load / target), limited by rates, panic, delay, bounds and the rules for zero.',
  'ready': 'Pods that are ready; rates are relative to them.',
  'replicas': 'spec.replicas of the Deployment, as last seen.',
  'signal': 'How much is known: fresh (everything answered), partial (something is missing, nothing is lowered further than it may demand), lost (nothing heard, replicas stay), starting.',
  'covered': 'Seconds of the stable window for which there is data. Lowering needs 80 % of them; seconds without data are unknown, never zero.',
  'reason': 'Why the decision is what it is: one word of a closed list, each explained in docs/reasons.md.',
  'gate': 'Why the decision is not written although it may differ: observed only, paused, a rival, a manual zero.',
  'scale-down delay': 'The highest decision of the last while is held for so long.',
  'excess burst capacity': 'What ready pods can bear beyond the load and the burst that was asked to be kept free. Below 0 a proxy that holds requests should be in the path.',
};

export function term(word, text = word) {
  return element('span', { 'data-term': word, title: TERMS[word] ?? '', tabindex: '0' }, text);
}

export function glossaryPage() {
  return {
    title: 'Glossary',
    page: element('div', { class: 'glossary' },
      element('h2', {}, 'How a number of pods comes about'),
      element('p', {}, 'pods = ceil( mean load over the stable window / target per pod ), and the same over the panic window. ' +
        'If the short window asks for twice what is ready, panic mode holds the higher number. Rates, the delay, min-scale and max-scale ' +
        'and the rules for zero limit the result; each step is shown on the page of a workload with what came in and what came out.'),
      element('dl', {}, Object.entries(TERMS).map(([word, text]) => [element('dt', {}, word), element('dd', {}, text)]))),
    leave() {},
    key: () => false,
  };
}
