# Writes engine/flow/bytecode.h's tables from contrib/contracts/artifacts/NAME.json: creation code of each contract as a hex
# string, so that an installed loam can deploy without any file beside it.
BEGIN {
    print "/* Written by engine/flow/bytecode.awk from contrib/contracts/artifacts; do not edit. */"
    print "static const char *const bytecode_hex[][2] = {"
}
/^ "contract": / { name = $2; gsub(/[",]/, "", name) }
/^ "bytecode": / {
    hex = $2
    sub(/",?$/, "", hex)
    sub(/^"0x/, "", hex)
    printf "    {\"%s\",\n", name
    for (i = 1; i <= length(hex); i += 120)
        printf "     \"%s\"\n", substr(hex, i, 120)
    print "    },"
}
END { print "};" }
