using VirtBackup.Proofs.Fuzz;
using VirtBackup.Testing.Proofs;

var others = new List<string>();
var folders = new Dictionary<string, string>(StringComparer.Ordinal) { ["--corpus"] = "", ["--keep"] = "" };
for (var i = 0; i < args.Length; i++)
{
    if (!folders.ContainsKey(args[i]))
    {
        others.Add(args[i]);
    }
    else if (i + 1 < args.Length)
    {
        folders[args[i]] = Path.GetFullPath(args[++i]);
    }
    else
    {
        await Console.Error.WriteLineAsync($"fuzz-parsers: {args[i]} needs a folder.");
        return 2;
    }
}
return await ProofProgram.RunAsync(new FuzzProof(folders["--corpus"], folders["--keep"]), [.. others]);
