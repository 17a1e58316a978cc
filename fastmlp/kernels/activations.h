/* The constants of activations.pxi. */
#ifndef FASTMLP_ACTIVATIONS_H
#define FASTMLP_ACTIVATIONS_H

#define SELU_SCALE ((real)1.0507009873554804934193349852946)
#define SELU_FLOOR ((real)1.7580993408473768599402175208123)    /* SELU_SCALE alpha */
#define GELU_CUBIC ((real)0.044715)
#define GELU_SLOPE ((real)1.5957691216057307117597842397375)    /* sqrt(8 / pi) */
#define NORMAL_0 ((real)0.3989422804014326779399460599344)      /* 1 / sqrt(2 pi) */

#endif
