using VirtBackup.Proofs.GroupCut;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new GroupCutProof(), args);
