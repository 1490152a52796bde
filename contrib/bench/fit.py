# minimax-ish (Chebyshev-node interpolation) fits in high precision with fractions/decimal
from decimal import Decimal as D, getcontext
getcontext().prec=60
import math
PI=D('3.14159265358979323846264338327950288419716939937510582097494459')
def dcos(x):
    x=D(x);t=D(1);s=D(1);n=0
    while abs(t)>D(10)**-55:
        n+=2;t=-t*x*x/(n*(n-1));s+=t
    return s
def solve(A,b):
    n=len(b);A=[r[:]+[v] for r,v in zip(A,b)]
    for i in range(n):
        p=max(range(i,n),key=lambda r:abs(A[r][i]));A[i],A[p]=A[p],A[i]
        for r in range(i+1,n):
            f=A[r][i]/A[i][i]
            for c in range(i,n+1):A[r][c]-=f*A[i][c]
    x=[D(0)]*n
    for i in range(n-1,-1,-1):
        x[i]=(A[i][n]-sum(A[i][c]*x[c] for c in range(i+1,n)))/A[i][i]
    return x
def fit(f,a,b,deg):
    n=deg+1
    xs=[(a+b)/2+(b-a)/2*dcos(PI*(2*i+1)/(2*n)) for i in range(n)]
    return solve([[x**k for k in range(n)] for x in xs],[f(x) for x in xs])
L=D(2).ln()/2*D('1.0005')
# exp(r)=1+r+r^2*P(r), P degree 4
def pe(r):
    if abs(r)<D('1e-20'):return D('0.5')
    return (r.exp()-1-r)/(r*r)
print('exp',[ '%.9ef'%float(c) for c in fit(pe,-L,L,4)])
# tanh(x)=x+x*z*P(z), z=x^2 in (0,0.625^2]
def th(z):
    if z==0:return -D(1)/3
    x=z.sqrt();e=(2*x).exp();t=(e-1)/(e+1);return (t/x-1)/z
print('tanh',['%.9ef'%float(c) for c in fit(th,D('1e-12'),D('0.390625'),4)])
import struct
def f32(x):return struct.unpack('f',struct.pack('f',float(x)))[0]
ln2=D(2).ln()
hi=f32(ln2); lo=f32(ln2-D(hi)); print('ln2',float.hex(hi),float.hex(lo), 'log2e',float.hex(f32(1/ln2)))
hi=float(ln2); lo=float(ln2-D(hi)); print('ln2 d',hi.hex(),lo.hex(), float(1/ln2).hex())
p=PI/2
a=float(p);b=float(p-D(a));c=float(p-D(a)-D(b));print('pio2',a.hex(),b.hex(),c.hex(),float(1/p).hex())
print('sqrt2pi',float.hex(f32((2/PI).sqrt())))
